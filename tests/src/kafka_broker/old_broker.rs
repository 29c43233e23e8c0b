//! A stub that stands for a broker of long ago: it says which requests it knows, and answers none
//! of them. Speaks ApiVersions and nothing else of Kafka's protocol.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const API_VERSIONS: i16 = 18;
const UNSUPPORTED_VERSION: i16 = 35;
/// A connection without a request ends after this time.
const IDLE: Duration = Duration::from_secs(60);

/// The stub; it stops when dropped.
#[derive(Debug)]
pub struct OldBroker {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl OldBroker {
    /// Kafka 2.1, as far as a client asks: the last line whose transactions do not know their group
    /// (KIP-447 came with 2.5).
    #[must_use]
    pub fn kafka_2_1() -> Self {
        Self::start(&[
            (0, 0, 7),
            (1, 0, 10),
            (2, 0, 4),
            (3, 0, 7),
            (8, 0, 6),
            (9, 0, 5),
            (10, 0, 2),
            (API_VERSIONS, 0, 2),
            (19, 0, 3),
            (21, 0, 1),
            (22, 0, 1),
            (24, 0, 1),
            (25, 0, 1),
            (26, 0, 1),
            (28, 0, 2),
            (32, 0, 2),
        ])
    }

    /// A broker that knows these requests: number, lowest and highest version.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start(requests: &[(i16, i16, i16)]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stopped = Arc::new(AtomicBool::new(false));
        let (stop, requests) = (Arc::clone(&stopped), requests.to_vec());
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let requests = requests.clone();
                connections.push(std::thread::spawn(move || serve(stream, &requests)));
            }
        });
        Self { address, stopped, thread: Some(thread) }
    }

    /// Host and port for clients.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for OldBroker {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Answers until the client goes or asks for anything else than versions.
fn serve(mut stream: TcpStream, requests: &[(i16, i16, i16)]) {
    if stream.set_read_timeout(Some(IDLE)).is_err() {
        return;
    }
    while let Some(request) = read(&mut stream) {
        let short = |at: usize| Some(i16::from_be_bytes(request.get(at..at + 2)?.try_into().ok()?));
        let (Some(API_VERSIONS), Some(version)) = (short(0), short(2)) else { return };
        let Some(correlation) = request.get(4..8) else { return };
        let (code, known) = match version {
            0..=2 => (0, requests),
            // What a broker says to a version that it does not know (KIP-511).
            _ => (UNSUPPORTED_VERSION, &[(API_VERSIONS, 0, 2)][..]),
        };
        let mut answer = correlation.to_vec();
        answer.extend(i16::to_be_bytes(code));
        answer.extend(i32::try_from(known.len()).expect("few").to_be_bytes());
        for (key, lowest, highest) in known {
            answer.extend([key, lowest, highest].into_iter().flat_map(|n| n.to_be_bytes()));
        }
        if code == 0 && version > 0 {
            answer.extend(0_i32.to_be_bytes());
        }
        let mut framed = i32::try_from(answer.len()).expect("short").to_be_bytes().to_vec();
        framed.extend(answer);
        if stream.write_all(&framed).is_err() {
            return;
        }
    }
}

fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).ok()?.min(1 << 20)];
    stream.read_exact(&mut request).ok()?;
    Some(request)
}
