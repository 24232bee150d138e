//! A proxy in front of any server that talks over TCP: it makes it slow, silent or mad.

use std::net::SocketAddr;
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::proxy::gate::{Gate, Wire};

/// What is wrong with every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Connections are accepted, and no byte passes in either direction until this is over.
    Stall,
    /// Connections are reset, old ones and new ones.
    Reset,
    /// As many bytes as the server sends come back, and they are random ones.
    Garbage,
}

/// How the way to the server is at the moment.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    latency: Duration,
    trouble: Option<Trouble>,
}

/// A proxy, gone when dropped.
pub struct TcpProxy {
    weather: watch::Sender<Weather>,
    gate: Gate,
}

impl TcpProxy {
    /// Starts one in front of a server.
    pub fn start(upstream: SocketAddr) -> Self {
        let weather = watch::Sender::new(Weather::default());
        let given = weather.clone();
        let gate = Gate::open(move |wire| relay(wire, upstream, given.subscribe()));
        Self { weather, gate }
    }

    /// Where clients connect instead.
    pub fn address(&self) -> SocketAddr {
        self.gate.address()
    }

    /// Makes whatever the server sends come so much later.
    pub fn set_latency(&self, latency: Duration) {
        self.weather.send_modify(|weather| weather.latency = latency);
    }

    /// Starts trouble, or ends it.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        self.weather.send_modify(|weather| weather.trouble = trouble);
    }

    /// Ends all connections and refuses new ones, as if the server had been killed.
    pub fn pause(&self) {
        self.gate.close();
    }

    /// Accepts connections again.
    pub fn resume(&self) {
        self.gate.reopen();
    }

    /// How many connections are open now.
    pub fn connections(&self) -> usize {
        self.gate.connections()
    }
}

/// Serves a connection until one side ends it, or trouble does.
async fn relay(wire: Wire, upstream: SocketAddr, weather: watch::Receiver<Weather>) {
    let reset = wire.reset();
    let Ok(server) = TcpStream::connect(upstream).await else { return reset.set() };
    server.set_nodelay(true).expect("a socket option");
    let (from_server, to_server) = server.into_split();
    let (from_client, to_client) = tokio::io::split(wire);
    let mut look = weather.clone();
    let resetting = async {
        // An error means that the proxy is gone, which ends the connection as well.
        let _ = look.wait_for(|weather| weather.trouble == Some(Trouble::Reset)).await;
        reset.set();
    };
    tokio::select! {
        () = pump(from_client, to_server, weather.clone(), false) => {}
        () = pump(from_server, to_client, weather, true) => {}
        () = resetting => {}
    }
}

/// Passes bytes on in one direction until it ends. Latency and garbage are for answers only.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
    answers: bool,
) {
    // What is under way waits here, so that one delay is not added to the next.
    let (sender, mut underway) = mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let mut look = weather.clone();
    let reading = async move {
        let mut rng = Rng::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let Ok(bytes @ 1..) = from.read(&mut buffer).await else { return };
            let now = *look.borrow_and_update();
            let mut part = buffer[..bytes].to_vec();
            let mut due = Instant::now();
            if answers {
                due += now.latency;
                if now.trouble == Some(Trouble::Garbage) {
                    rng.fill(&mut part);
                }
            }
            if sender.send((due, part)).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((due, part)) = underway.recv().await {
            sleep_until(due).await;
            let calm = weather.wait_for(|weather| weather.trouble != Some(Trouble::Stall));
            if calm.await.is_err() || to.write_all(&part).await.is_err() {
                return;
            }
        }
    };
    // The reader ends first and what it has read is still written, unless that is impossible.
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Instant;

    use super::*;
    use crate::wait::{PATIENCE, wait_until};

    /// A server that sends back what it gets, for as long as the test's process lives.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                thread::spawn(move || {
                    let mut reader = stream.try_clone().expect("a second handle");
                    std::io::copy(&mut reader, &mut stream).is_ok()
                });
            }
        });
        address
    }

    fn connect(proxy: &TcpProxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).expect("the proxy accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream
    }

    fn ask(stream: &mut TcpStream, question: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(question)?;
        let mut answer = vec![0; question.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn bytes_pass_both_ways() {
        let proxy = TcpProxy::start(echo());
        let mut stream = connect(&proxy);
        let long = vec![7; 1 << 20];
        let mut sender = stream.try_clone().expect("a second handle");
        let sent = long.clone();
        let sending = thread::spawn(move || sender.write_all(&sent));
        let mut answer = vec![0; long.len()];
        stream.read_exact(&mut answer).expect("an answer");
        assert!(answer == long, "something else came back");
        sending.join().expect("a thread").expect("all is sent");
        assert_eq!(proxy.connections(), 1);
        drop(stream);
    }

    #[test]
    fn answers_come_later() {
        let proxy = TcpProxy::start(echo());
        let mut stream = connect(&proxy);
        proxy.set_latency(Duration::from_millis(100));
        let start = Instant::now();
        assert_eq!(ask(&mut stream, b"ping").expect("an answer"), b"ping");
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    }

    #[test]
    fn a_stall_ends() {
        let proxy = TcpProxy::start(echo());
        let mut stream = connect(&proxy);
        proxy.set_trouble(Some(Trouble::Stall));
        stream.write_all(b"ping").expect("sent");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket option");
        let error = stream.read(&mut [0]).expect_err("nothing comes");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        proxy.set_trouble(None);
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"ping");
    }

    #[test]
    fn connections_are_reset() {
        let proxy = TcpProxy::start(echo());
        let mut stream = connect(&proxy);
        ask(&mut stream, b"ping").expect("an answer");
        proxy.set_trouble(Some(Trouble::Reset));
        let error = stream.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        ask(&mut connect(&proxy), b"ping").expect_err("a reset");
        proxy.set_trouble(None);
        assert_eq!(ask(&mut connect(&proxy), b"ping").expect("an answer"), b"ping");
        wait_until("connections to end", || proxy.connections() == 0);
    }

    #[test]
    fn garbage_comes_back() {
        let proxy = TcpProxy::start(echo());
        let mut stream = connect(&proxy);
        proxy.set_trouble(Some(Trouble::Garbage));
        let question = vec![0; 1000];
        let answer = ask(&mut stream, &question).expect("an answer");
        assert_ne!(answer, question);
    }

    #[test]
    fn a_closed_proxy_refuses() {
        let proxy = TcpProxy::start(echo());
        let mut stream = connect(&proxy);
        ask(&mut stream, b"ping").expect("an answer");
        proxy.pause();
        assert_eq!(proxy.connections(), 0);
        assert!(!matches!(stream.read(&mut [0]), Ok(1..)), "the connection is still open");
        let error = TcpStream::connect(proxy.address()).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        proxy.resume();
        assert_eq!(ask(&mut connect(&proxy), b"ping").expect("an answer"), b"ping");
    }
}
