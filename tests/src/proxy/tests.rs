//! The proxy in front of a tiny server, asked by a client that shows every byte.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Instant;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::*;
use crate::wait::{PATIENCE, wait_until};

/// Bytes of every object.
const SIZE: usize = 10_000;

/// The object that the server has under every name.
fn object() -> Vec<u8> {
    (0..SIZE).map(|position| (position % 251) as u8).collect()
}

/// A server that knows GET, of ranges too, and for all other methods repeats what it was sent.
fn upstream() -> Gate {
    Gate::open(|wire| async {
        let service = service_fn(play);
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(wire), service)
            .await;
    })
}

async fn play(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let header = |name: &str| {
        request.headers().get(name).map(|value| value.to_str().expect("text").to_owned())
    };
    let told = format!("{} {}", header("host").expect("a host"), request.uri());
    let response = Response::builder().header("x-told", told);
    if request.method() != "GET" {
        let body = request.into_body().collect().await?.to_bytes();
        return Ok(response.body(Full::new(body)).expect("a response"));
    }
    let range = header("range").map(|range| {
        let (start, end) = range.trim_start_matches("bytes=").split_once('-').expect("a range");
        (start.parse::<usize>().expect("a number"), end.parse::<usize>().expect("a number"))
    });
    let (status, (start, end)) =
        (if range.is_some() { 206 } else { 200 }, range.unwrap_or((0, SIZE - 1)));
    let body = Bytes::from(object()[start..=end].to_vec());
    let response = response.status(status);
    let response = response.header("content-range", format!("bytes {start}-{end}/{SIZE}"));
    Ok(response.body(Full::new(body)).expect("a response"))
}

fn proxy() -> (Gate, Proxy) {
    let server = upstream();
    let proxy = Proxy::start(&format!("http://{}", server.address()));
    (server, proxy)
}

/// An answer: status, headers in lower case, and as much of the body as came.
#[derive(Debug)]
struct Got {
    status: u16,
    headers: String,
    body: Vec<u8>,
    whole: bool,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

struct Visitor(BufReader<TcpStream>);

impl Visitor {
    fn new(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.gate.address()).expect("the proxy accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        Self(BufReader::new(stream))
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        self.0.get_mut().write_all(text.as_bytes())
    }

    fn receive(&mut self) -> io::Result<Got> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let (first, headers) = head.split_once("\r\n").expect("a status line");
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let mut got =
            Got { status, headers: headers.to_lowercase(), body: Vec::new(), whole: true };
        let length: u64 = got.header("content-length").parse().expect("a number");
        (&mut self.0).take(length).read_to_end(&mut got.body)?;
        got.whole = got.body.len() as u64 == length;
        Ok(got)
    }

    fn get(&mut self, path: &str, more: &str) -> io::Result<Got> {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: bucket.example:1\r\n{more}\r\n"))?;
        self.receive()
    }
}

/// A fresh visitor's answer.
fn get(proxy: &Proxy, path: &str) -> io::Result<Got> {
    Visitor::new(proxy).get(path, "")
}

#[test]
fn host_path_and_body_arrive_as_they_were_sent() {
    let (server, proxy) = proxy();
    let mut visitor = Visitor::new(&proxy);
    for _ in 0..3 {
        let got = visitor.get("/a%20b//c+d/?x=%2F&list-type=2", "").expect("an answer");
        assert_eq!((got.status, got.body), (200, object()));
        let got = visitor.get("/a%20b//c+d/?x=%2F&list-type=2", "").expect("an answer");
        assert_eq!(got.header("x-told"), "bucket.example:1 /a%20b//c+d/?x=%2f&list-type=2");
    }
    let got = visitor.get("/a", "Range: bytes=5-14\r\n").expect("an answer");
    assert_eq!((got.status, got.body.as_slice()), (206, &object()[5..15]));
    let body = "0123456789".repeat(100_000);
    visitor
        .send(&format!(
            "PUT /a HTTP/1.1\r\nHost: b\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .expect("sent");
    assert!(visitor.receive().expect("an answer").body == body.as_bytes());
    // One connection on either side was enough for all of them.
    assert_eq!((proxy.counts().connections, server.connections()), (1, 1));
    drop(visitor);
    wait_until("both to end", || (proxy.counts().connections, server.connections()) == (0, 0));
}

#[test]
fn requests_are_counted_and_remembered() {
    let (_server, proxy) = proxy();
    let mut visitor = Visitor::new(&proxy);
    visitor.get("/a", "").expect("an answer");
    visitor.get("/b", "Range: bytes=0-99\r\n").expect("an answer");
    visitor.send("DELETE /c HTTP/1.1\r\nHost: b\r\n\r\n").expect("sent");
    visitor.receive().expect("an answer");
    let expected = Counts { requests: 3, gets: 2, bytes: 10_100, faults: 0, connections: 1 };
    assert_eq!(proxy.counts(), expected);
    let seen: Vec<_> = proxy.take_log().into_iter().map(|s| (s.method, s.path, s.range)).collect();
    let line = |method: &str, path: &str, range: Option<&str>| {
        (method.to_owned(), path.to_owned(), range.map(str::to_owned))
    };
    let expected = [
        line("GET", "/a", None),
        line("GET", "/b", Some("bytes=0-99")),
        line("DELETE", "/c", None),
    ];
    assert_eq!(seen, expected);
    assert_eq!(proxy.take_log(), []);
}

#[test]
fn latency_is_waited_for_in_parallel() {
    let (_server, proxy) = proxy();
    let latency = Duration::from_millis(100);
    proxy.set_latency(latency);
    let mut visitors: Vec<Visitor> = (0..20).map(|_| Visitor::new(&proxy)).collect();
    let start = Instant::now();
    for visitor in &mut visitors {
        visitor.send("GET /a HTTP/1.1\r\nHost: b\r\n\r\n").expect("sent");
    }
    for visitor in &mut visitors {
        assert_eq!(visitor.receive().expect("an answer").status, 200);
    }
    let taken = start.elapsed();
    assert!(taken >= latency && taken < 10 * latency, "{taken:?}");
}

#[test]
fn errors_are_reported_as_s3_does() {
    let (_server, proxy) = proxy();
    for (effect, status, code) in [
        (Effect::InternalError, 500, "InternalError"),
        (Effect::SlowDown(None), 503, "SlowDown"),
        (Effect::Expired, 403, "ExpiredToken"),
        (Effect::Missing, 404, "NoSuchKey"),
    ] {
        proxy.inject(Fault::new(effect).first(1));
        let mut visitor = Visitor::new(&proxy);
        let got = visitor.get("/a", "").expect("an answer");
        assert_eq!(got.status, status);
        let body = String::from_utf8_lossy(&got.body);
        assert!(body.contains(&format!("<Code>{code}</Code>")), "{body}");
        // The connection lives on.
        assert_eq!(visitor.get("/a", "").expect("an answer").body, object());
    }
    proxy.inject(Fault::new(Effect::SlowDown(Some(2))));
    assert_eq!(get(&proxy, "/a").expect("an answer").header("retry-after"), "2");
    assert_eq!(proxy.counts().faults, 5);
    proxy.heal();
    assert_eq!(get(&proxy, "/a").expect("an answer").status, 200);
}

#[test]
fn connections_are_reset() {
    let (_server, proxy) = proxy();
    proxy.inject(Fault::new(Effect::Reset).method("GET").path("/a").first(1));
    assert_eq!(get(&proxy, "/b").expect("an answer").status, 200);
    let error = get(&proxy, "/a").expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(get(&proxy, "/a").expect("an answer").status, 200);
    wait_until("connections to end", || proxy.counts().connections == 0);
}

#[test]
fn a_server_that_is_gone_is_a_reset() {
    let (server, proxy) = proxy();
    assert_eq!(get(&proxy, "/a").expect("an answer").status, 200);
    server.close();
    let error = get(&proxy, "/a").expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    server.reopen();
    assert_eq!(get(&proxy, "/a").expect("an answer").status, 200);
}

#[test]
fn half_of_a_body_comes() {
    let (_server, proxy) = proxy();
    proxy.inject(Fault::new(Effect::HalfBody));
    let got = get(&proxy, "/a").expect("the first half");
    assert_eq!((got.status, got.header("content-length")), (200, "10000"));
    assert!(!got.whole);
    assert_eq!(got.body, object()[..SIZE / 2]);
}

#[test]
fn a_wrong_body_looks_right() {
    let (_server, proxy) = proxy();
    proxy.inject(Fault::new(Effect::WrongBody));
    let got = get(&proxy, "/a").expect("an answer");
    assert!((got.status, got.body.len()) == (200, SIZE) && got.whole);
    let wrong = got.body.iter().zip(object()).filter(|(got, sent)| *got != sent).count();
    assert_eq!(wrong, SIZE.div_ceil(251));
}

#[test]
fn a_short_body_says_so() {
    let (_server, proxy) = proxy();
    proxy.inject(Fault::new(Effect::ShortBody));
    let got = Visitor::new(&proxy).get("/a", "Range: bytes=100-199\r\n").expect("an answer");
    assert_eq!((got.status, got.body.as_slice()), (206, &object()[100..150]));
    assert_eq!(got.header("content-range"), "bytes 100-149/150");
}

#[test]
fn stalled_requests_go_on_when_the_proxy_is_healed() {
    let (_server, proxy) = proxy();
    proxy.inject(Fault::new(Effect::Stall));
    let mut visitor = Visitor::new(&proxy);
    visitor.send("GET /a HTTP/1.1\r\nHost: b\r\n\r\n").expect("sent");
    let stream = visitor.0.get_mut();
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket option");
    let error = stream.read(&mut [0]).expect_err("nothing comes");
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    proxy.heal();
    assert_eq!(visitor.receive().expect("an answer").body, object());
    drop(visitor);
    // One whose client has given up is forgotten.
    proxy.inject(Fault::new(Effect::Stall));
    let mut visitor = Visitor::new(&proxy);
    visitor.send("GET /a HTTP/1.1\r\nHost: b\r\n\r\n").expect("sent");
    wait_until("the request to come", || proxy.counts().faults == 2);
    drop(visitor);
    wait_until("connections to end", || proxy.counts().connections == 0);
}

#[test]
fn late_answers_come() {
    let (_server, proxy) = proxy();
    proxy.inject(Fault::new(Effect::Late(Duration::from_millis(150))).first(1));
    let start = Instant::now();
    assert_eq!(get(&proxy, "/a").expect("an answer").body, object());
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
}

#[test]
fn a_closed_proxy_refuses() {
    let (_server, proxy) = proxy();
    proxy.inject(Fault::new(Effect::Stall).path("/stall"));
    let mut stalled = Visitor::new(&proxy);
    stalled.send("GET /stall HTTP/1.1\r\nHost: b\r\n\r\n").expect("sent");
    wait_until("the request to come", || proxy.counts().requests == 1);
    let waiting = thread::spawn(move || stalled.receive());
    proxy.pause();
    waiting.join().expect("a thread").expect_err("the connection ends");
    let error = TcpStream::connect(proxy.gate.address()).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    proxy.resume();
    assert_eq!(get(&proxy, "/a").expect("an answer").status, 200);
}
