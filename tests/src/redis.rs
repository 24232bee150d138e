//! Redis: a real server for a test, on loopback, that can be killed, frozen and asked.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::{Server, free_port, signal_process, tail};
use crate::tools;
use crate::wait::{PATIENCE, wait_for};

/// A Redis server that keeps nothing on disk, gone when dropped.
pub struct Redis {
    folder: TempDir,
    port: u16,
    server: Option<Server>,
}

/// What Redis answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, for example `OK`.
    Status(String),
    /// A number.
    Number(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Nothing.
    Nil,
    /// Several answers.
    List(Vec<Reply>),
}

impl Redis {
    /// Starts an empty server.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("r")
            .tempdir_in(tools::directory())
            .expect("a folder for Redis");
        let mut redis = Self { folder, port: free_port(), server: None };
        redis.start_server();
        redis
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Settings that make a cluster use this server.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        settings_at(self.address())
    }

    /// Process id.
    pub fn pid(&self) -> i32 {
        self.server.as_ref().expect("Redis runs").pid()
    }

    /// Kills it; what it held is lost.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    /// Starts a killed server at the same address, empty.
    pub fn start_server(&mut self) {
        assert!(self.server.is_none(), "Redis runs already");
        let log = self.log();
        let mut command = Command::new(tools::redis_server());
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--set-proc-title", "no", "--dir"])
            .arg(self.folder.path());
        self.server = Some(Server::start(&mut command, &log));
        wait_for("Redis to answer", || {
            let server = self.server.as_mut().expect("just started");
            assert!(server.is_running(), "Redis ended:\n{}", tail(&log, 20));
            let pong = Reply::Status("PONG".to_owned());
            self.try_ask(&[b"PING"]).ok().filter(|answer| *answer == pong)
        });
    }

    /// Stops the process where it is (SIGSTOP): connections stay open, nothing is answered.
    pub fn freeze(&self) {
        signal_process(self.pid(), Signal::SIGSTOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        signal_process(self.pid(), Signal::SIGCONT);
    }

    /// How many values it holds.
    pub fn size(&self) -> u64 {
        match self.ask(&[b"DBSIZE"]) {
            Reply::Number(size) => size.try_into().expect("not negative"),
            other => panic!("DBSIZE: {other:?}"),
        }
    }

    /// Removes all values.
    pub fn flush(&self) {
        self.ask(&[b"FLUSHALL"]);
    }

    /// Gives every value these bytes instead; returns how many there were.
    pub fn overwrite(&self, bytes: &[u8]) -> u64 {
        let script = b"local keys = redis.call('KEYS', '*') \
                       for _, key in ipairs(keys) do redis.call('SET', key, ARGV[1]) end \
                       return #keys";
        match self.ask(&[b"EVAL", script, b"0", bytes]) {
            Reply::Number(count) => count.try_into().expect("not negative"),
            other => panic!("EVAL: {other:?}"),
        }
    }

    /// Changes one byte in the middle of every value; returns how many there were.
    pub fn damage(&self) -> u64 {
        let script = b"local keys = redis.call('KEYS', '*') \
                       for _, key in ipairs(keys) do \
                           local middle = math.floor(redis.call('STRLEN', key) / 2) \
                           local byte = redis.call('GETRANGE', key, middle, middle):byte() \
                           redis.call('SETRANGE', key, middle, string.char((byte + 1) % 256)) \
                       end \
                       return #keys";
        match self.ask(&[b"EVAL", script, b"0"]) {
            Reply::Number(count) => count.try_into().expect("not negative"),
            other => panic!("EVAL: {other:?}"),
        }
    }

    /// Sends a command and its arguments.
    #[track_caller]
    pub fn ask(&self, command: &[&[u8]]) -> Reply {
        self.try_ask(command).unwrap_or_else(|error| panic!("Redis: {error}"))
    }

    fn try_ask(&self, command: &[&[u8]]) -> io::Result<Reply> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = format!("*{}\r\n", command.len()).into_bytes();
        for part in command {
            request.extend(format!("${}\r\n", part.len()).bytes());
            request.extend(*part);
            request.extend(b"\r\n");
        }
        stream.write_all(&request)?;
        read_reply(&mut BufReader::new(stream))
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("redis.log")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the end of Redis' log ----\n{}\n----", tail(&self.log(), 20));
        }
    }
}

/// Settings that make a cluster use the Redis at an address: the server's own or a proxy's.
pub fn settings_at(address: SocketAddr) -> Vec<(&'static str, String)> {
    vec![("s3vector.redis_url", format!("redis://{address}"))]
}

/// Reads an answer of the protocol RESP2.
fn read_reply(reader: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end();
    let (kind, rest) = line.split_at_checked(1).ok_or_else(|| odd(line))?;
    let number = || rest.parse::<i64>().map_err(|_| odd(line));
    Ok(match kind {
        "+" => Reply::Status(rest.to_owned()),
        ":" => Reply::Number(number()?),
        "$" => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(length) => {
                let mut bytes = vec![0; length + 2];
                reader.read_exact(&mut bytes)?;
                bytes.truncate(length);
                Reply::Bytes(bytes)
            }
        },
        "*" => match usize::try_from(number()?) {
            Err(_) => Reply::Nil,
            Ok(count) => {
                Reply::List((0..count).map(|_| read_reply(reader)).collect::<io::Result<_>>()?)
            }
        },
        _ => return Err(odd(line)),
    })
}

/// Redis reported an error, or is none.
fn odd(line: &str) -> io::Error {
    io::Error::other(format!("it answered '{line}'"))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;

    fn set(redis: &Redis, key: &str, value: &[u8]) {
        redis.ask(&[b"SET", key.as_bytes(), value]);
    }

    #[test]
    fn values_come_and_go() {
        let redis = Redis::start();
        assert_eq!(redis.size(), 0);
        set(&redis, "a", b"12345");
        set(&redis, "b", b"\r\n\0\xff");
        assert_eq!(redis.size(), 2);
        let values = redis.ask(&[b"MGET", b"a", b"b", b"c"]);
        let bytes = |bytes: &[u8]| Reply::Bytes(bytes.to_vec());
        assert_eq!(values, Reply::List(vec![bytes(b"12345"), bytes(b"\r\n\0\xff"), Reply::Nil]));
        assert_eq!(redis.damage(), 2);
        assert_eq!(redis.ask(&[b"GET", b"a"]), bytes(b"12445"));
        assert_eq!(redis.overwrite(b"x"), 2);
        assert_eq!(redis.ask(&[b"GET", b"b"]), bytes(b"x"));
        redis.flush();
        assert_eq!(redis.size(), 0);
    }

    #[test]
    fn a_killed_server_comes_back_empty() {
        let mut redis = Redis::start();
        set(&redis, "a", b"1");
        redis.kill();
        let error = TcpStream::connect(redis.address()).expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        redis.start_server();
        assert_eq!(redis.size(), 0);
    }

    #[test]
    fn a_frozen_server_is_silent() {
        let redis = Redis::start();
        redis.freeze();
        let mut stream = TcpStream::connect(redis.address()).expect("the kernel accepts");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket option");
        stream.write_all(b"PING\r\n").expect("sent");
        stream.read(&mut [0]).expect_err("nothing comes");
        redis.thaw();
        assert_eq!(redis.size(), 0);
    }
}
