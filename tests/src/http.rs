//! A small blocking HTTP client for local servers: one request a connection.

use anyhow::{Context, Result, ensure};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

const DEADLINE: Duration = Duration::from_secs(30);

/// A server's answer.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

impl Response {
    /// The body of a 2xx answer.
    ///
    /// # Errors
    /// For any other status, with the body.
    pub fn success(self) -> Result<String> {
        ensure!((200..300).contains(&self.status), "HTTP {}: {}", self.status, self.body.trim());
        Ok(self.body)
    }
}

/// GET of an `http://host:port/path` address.
///
/// # Errors
/// When the server cannot be reached or answers something that is not HTTP.
pub fn get(url: &str) -> Result<Response> {
    send("GET", url, &[], "")
}

/// POST of a text with headers of the caller's.
///
/// # Errors
/// As [`get`].
pub fn post(url: &str, headers: &[(&str, &str)], body: &str) -> Result<Response> {
    send("POST", url, headers, body)
}

fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Result<Response> {
    let rest = url.strip_prefix("http://").with_context(|| format!("not an http:// address: {url}"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).with_context(|| format!("connect to {host}"))?;
    stream.set_read_timeout(Some(DEADLINE)).context("set the deadline")?;
    stream.set_write_timeout(Some(DEADLINE)).context("set the deadline")?;
    // HTTP/1.0: the server closes after its answer and does not send chunks.
    let mut request = format!("{method} /{path} HTTP/1.0\r\nHost: {host}\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(request.as_bytes()).with_context(|| format!("send to {host}"))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(|| format!("read the answer of {host}"))?;
    parse(&String::from_utf8_lossy(&answer)).with_context(|| format!("{host} does not speak HTTP"))
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Response { status, body: body.to_owned() })
}
