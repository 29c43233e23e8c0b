//! Rights of users (ACLs), given in Kafka's own protocol, because librdkafka's bindings have no call
//! for it and a Java tool takes seconds. Knows CreateAcls and DescribeAcls, version 1, and no more.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const CREATE_ACLS: i16 = 30;
const DESCRIBE_ACLS: i16 = 29;
const VERSION: i16 = 1;
const ALLOW: u8 = 3;
const ANY: u8 = 1;
const PATIENCE: Duration = Duration::from_secs(30);

/// What a right is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The topic of this name.
    Topic(&'a str),
    /// Topics whose names begin so.
    Topics(&'a str),
    /// The consumer group of this name.
    Group(&'a str),
    /// Transactional ids that begin so.
    TransactionalIds(&'a str),
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Read, and with it describe.
    Read,
    /// Write, and with it describe.
    Write,
    /// Create.
    Create,
    /// Delete, and with it describe.
    Delete,
    /// Describe.
    Describe,
    /// Read the configuration.
    DescribeConfigs,
}

/// One right of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right<'a> {
    /// Who: the user's name, without `User:`.
    pub user: &'a str,
    /// May do this.
    pub operation: Operation,
    /// With this.
    pub resource: Resource<'a>,
}

impl Resource<'_> {
    /// Kafka's numbers of the resource type and of the pattern type, and the name.
    fn parts(&self) -> (u8, u8, &str) {
        const LITERAL: u8 = 3;
        const PREFIXED: u8 = 4;
        match self {
            Self::Topic(name) => (2, LITERAL, name),
            Self::Topics(prefix) => (2, PREFIXED, prefix),
            Self::Group(name) => (3, LITERAL, name),
            Self::TransactionalIds(prefix) => (5, PREFIXED, prefix),
        }
    }
}

impl Operation {
    fn number(self) -> u8 {
        match self {
            Self::Read => 3,
            Self::Write => 4,
            Self::Create => 5,
            Self::Delete => 6,
            Self::Describe => 8,
            Self::DescribeConfigs => 10,
        }
    }
}

/// Gives the rights and waits until the broker knows as many as it was given in all, `known` before.
///
/// # Panics
/// When the broker refuses, or does not know them in time.
pub(super) fn grant(address: &str, rights: &[Right<'_>], known: usize) {
    let mut body = Vec::new();
    number(&mut body, rights.len());
    for right in rights {
        let (kind, pattern, name) = right.resource.parts();
        body.push(kind);
        text(&mut body, name);
        body.push(pattern);
        text(&mut body, &format!("User:{}", right.user));
        text(&mut body, "*");
        body.extend([right.operation.number(), ALLOW]);
    }
    let mut connection = Connection::open(address);
    let mut answer = connection.ask(CREATE_ACLS, &body);
    answer.skip(4);
    for right in rights.iter().take(answer.number()) {
        let code = answer.code();
        let why = answer.text();
        assert_eq!(code, 0, "cannot give {right:?}: {why:?}");
    }
    let deadline = Instant::now() + PATIENCE;
    while count(&mut connection) < known + rights.len() {
        assert!(Instant::now() < deadline, "the broker does not know its rights");
    }
}

/// How many rights the broker knows.
fn count(connection: &mut Connection) -> usize {
    let mut body = vec![ANY];
    body.extend((-1_i16).to_be_bytes());
    body.push(ANY);
    body.extend((-1_i16).to_be_bytes());
    body.extend((-1_i16).to_be_bytes());
    body.extend([ANY, ANY]);
    let mut answer = connection.ask(DESCRIBE_ACLS, &body);
    answer.skip(4);
    let code = answer.code();
    let why = answer.text();
    assert_eq!(code, 0, "cannot list rights: {why:?}");
    let mut rights = 0;
    for _ in 0..answer.number() {
        answer.skip(1);
        answer.text();
        answer.skip(1);
        for _ in 0..answer.number() {
            answer.text();
            answer.text();
            answer.skip(2);
            rights += 1;
        }
    }
    rights
}

struct Connection {
    stream: TcpStream,
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        Self { stream }
    }

    fn ask(&mut self, key: i16, body: &[u8]) -> Answer {
        let mut request = Vec::new();
        request.extend(key.to_be_bytes());
        request.extend(VERSION.to_be_bytes());
        request.extend(7_i32.to_be_bytes());
        text(&mut request, "rights");
        request.extend(body);
        let mut framed = Vec::new();
        number(&mut framed, request.len());
        framed.extend(request);
        self.stream.write_all(&framed).expect("the broker takes a request");
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("the broker answers");
        let length = usize::try_from(u32::from_be_bytes(length)).expect("a short answer");
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("the answer is whole");
        // The correlation id.
        Answer { bytes, at: 4 }
    }
}

struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes[self.at..self.at + N].try_into().expect("so many bytes");
        self.at += N;
        taken
    }

    fn code(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    fn number(&mut self) -> usize {
        usize::try_from(i32::from_be_bytes(self.take())).unwrap_or(0)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.code()).ok()?;
        let text = String::from_utf8_lossy(&self.bytes[self.at..self.at + length]).into_owned();
        self.at += length;
        Some(text)
    }
}

fn number(into: &mut Vec<u8>, number: usize) {
    into.extend(i32::try_from(number).expect("small").to_be_bytes());
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend(i16::try_from(text.len()).expect("short").to_be_bytes());
    into.extend(text.as_bytes());
}
