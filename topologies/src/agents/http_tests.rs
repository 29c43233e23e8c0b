//! Services as agents: what they answer, and how they fail.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::{JoinHandle, spawn};

use headwater::time::SystemClock;

use super::*;

const LONG: Duration = Duration::from_secs(30);

/// A service that answers one request with this text; what it was asked.
fn service(answer: String) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/agent", listener.local_addr().expect("bound"));
    let served = spawn(move || {
        let (stream, _) = listener.accept().expect("a request");
        let mut reader = BufReader::new(&stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a head");
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            head.push_str(&line);
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        // The client may have gone.
        drop((&stream).write_all(answer.as_bytes()));
        head + &String::from_utf8_lossy(&body)
    });
    (url, served)
}

fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn ask(url: &str, limit: Duration) -> Result<Reply, AgentError> {
    HttpAgent::new(url, limit).execute(&Work::example(), &SystemClock::new(), &|| false)
}

#[test]
fn a_service_is_posted_its_work_and_its_response_is_the_answer() {
    let (url, served) = service(response("200 OK", r#"{"output": "done"}"#));
    let Ok(Reply::Completed(completed)) = ask(&url, LONG) else { panic!("an answer") };
    assert_eq!(completed.result.output, "done");
    let asked = served.join().expect("served").to_lowercase();
    assert!(asked.starts_with("post /agent "), "{asked}");
    assert!(asked.contains("content-type: application/json"), "{asked}");
    assert!(asked.contains(&format!("x-step-id: {}", Work::example().step_id)), "{asked}");
    assert!(asked.contains(r#""ask":"execute""#), "{asked}");
}

#[test]
fn a_status_is_a_refusal_with_its_words() {
    for (status, code, retryable) in
        [("503 Busy", 503, true), ("422 No", 422, false), ("302 There", 302, true)]
    {
        let (url, served) = service(response(status, "not now"));
        let error = ask(&url, LONG).expect_err("refused");
        assert_eq!(error, AgentError::Refused { status: code, detail: "not now".into() });
        assert_eq!(error.is_retryable(), retryable);
        served.join().expect("served");
    }
}

#[test]
fn a_service_that_hangs_is_given_up_after_its_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    let found = ask(&url, Duration::from_millis(200));
    assert_eq!(found, Err(AgentError::TimedOut { limit_ms: 200 }));
}

#[test]
fn a_service_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    drop(listener);
    let found = ask(&format!("http://{address}/"), LONG);
    assert!(matches!(found, Err(AgentError::Unreachable { .. })), "{found:?}");
}

#[test]
fn a_service_that_breaks_off_or_says_too_much_or_rubbish_is_told_apart() {
    let (url, served) = service("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{".to_owned());
    let found = ask(&url, LONG);
    assert!(matches!(found, Err(AgentError::Unreachable { .. })), "{found:?}");
    served.join().expect("served");
    let (url, served) = service(response("200 OK", &"x".repeat(ANSWER_BYTES_MAX + 1)));
    assert_eq!(ask(&url, LONG), Err(AgentError::TooLarge { limit: ANSWER_BYTES_MAX }));
    served.join().expect("served");
    let (url, served) = service(response("200 OK", "<html>"));
    let found = ask(&url, LONG);
    assert!(matches!(found, Err(AgentError::Rubbish { .. })), "{found:?}");
    served.join().expect("served");
}
