//! `query`: asks a running instance over HTTP and prints what it answers. Owns addresses and paging;
//! knows no store's types.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value as Json;

use super::ShellError;
use super::options::{Asked, Paging, Question, Settings};
use crate::config::HostConfig;

/// The server answers or refuses sooner.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks and prints: an answer as it is, or with `--all` each row as a line.
pub(super) fn ask(
    asked: &Asked,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), ShellError> {
    let host = &settings.environment.host;
    let client = Client::new(asked, host);
    let prefix = asked.app.as_deref().map_or_else(String::new, |a| format!("/apps/{}", escape(a)));
    let (path, paging) = match &asked.question {
        Question::Get { path } => {
            let slash = if path.starts_with('/') { "" } else { "/" };
            (format!("{prefix}{slash}{path}"), None)
        }
        Question::Key { store, key } => {
            (format!("{prefix}/stores/{}/keys/{}", escape(store), escape(key)), None)
        }
        Question::Range { store, from, to, paging } => {
            let path = format!("{prefix}/stores/{}/range", escape(store));
            (with(path, &[("from", from), ("to", to)]), Some(paging))
        }
        Question::Windows { store, key, from, to, paging } => {
            let path = format!("{prefix}/stores/{}/windows/{}", escape(store), escape(key));
            (with(path, &[("from", from), ("to", to)]), Some(paging))
        }
    };
    let encoding = asked.base64.then(|| "base64".to_owned());
    let path = with(path, &[("encoding", &encoding)]);
    match paging {
        None => writeln!(out, "{}", client.get(&path)?.trim_end())?,
        Some(paging) => pages(&client, &path, paging, out)?,
    }
    Ok(())
}

fn pages(
    client: &Client,
    path: &str,
    paging: &Paging,
    out: &mut dyn Write,
) -> Result<(), ShellError> {
    let limit = paging.limit.map(|limit| limit.to_string());
    let mut cursor = paging.cursor.clone();
    loop {
        let page = client.get(&with(path.to_owned(), &[("limit", &limit), ("cursor", &cursor)]))?;
        if !paging.all {
            return Ok(writeln!(out, "{}", page.trim_end())?);
        }
        let page: Json = serde_json::from_str(&page).map_err(|e| client.nonsense(&e))?;
        for row in page["items"].as_array().into_iter().flatten() {
            writeln!(out, "{row}")?;
        }
        cursor = page["nextCursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok(());
        }
    }
}

struct Client {
    agent: ureq::Agent,
    base: String,
    token: Option<String>,
}

impl Client {
    fn new(asked: &Asked, host: &HostConfig) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        let base = match &asked.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", reachable(host.http)),
        };
        let token = host.http_token.as_ref().map(|token| format!("Bearer {}", token.reveal()));
        Self { agent: config.into(), base, token }
    }

    fn get(&self, path: &str) -> Result<String, ShellError> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", token);
        }
        let mut response = request.call().map_err(|e| self.nonsense(&e))?;
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_string().map_err(|e| self.nonsense(&e))?;
        if status < 400 {
            return Ok(body);
        }
        let problem: Option<Json> = serde_json::from_str(&body).ok();
        let detail = problem.as_ref().and_then(|p| p["detail"].as_str()).unwrap_or(&body);
        Err(ShellError::Refused { status, detail: detail.to_owned() })
    }

    fn nonsense(&self, reason: &dyn std::fmt::Display) -> ShellError {
        ShellError::Unreachable { address: self.base.clone(), reason: reason.to_string() }
    }
}

/// Where a server that listens there can be asked from this machine.
fn reachable(listens: Option<SocketAddr>) -> SocketAddr {
    let mut address = listens.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    address
}

/// The path with further parameters.
fn with(mut path: String, parameters: &[(&str, &Option<String>)]) -> String {
    for (name, value) in parameters {
        if let Some(value) = value {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&format!("{name}={}", escape(value)));
        }
    }
    path
}

/// Text as one segment of a path, or as a value in a query string.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_escaped_and_parameters_follow_each_other() {
        assert_eq!(escape("a/b c\u{e9}"), "a%2Fb%20c%C3%A9");
        let given = Some("a&b".to_owned());
        let path = with("/x".to_owned(), &[("from", &given), ("to", &None), ("limit", &given)]);
        assert_eq!(path, "/x?from=a%26b&limit=a%26b");
    }

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_loopback() {
        let everywhere = SocketAddr::from(([0, 0, 0, 0], 81));
        assert_eq!(reachable(Some(everywhere)).to_string(), "127.0.0.1:81");
    }
}
