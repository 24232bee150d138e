//! A real Redis server for a test, on loopback, that can be killed, frozen and looked into.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Commands, Connection, RedisResult};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that keeps nothing on disk, killed when dropped.
pub struct RedisServer {
    port: u16,
    arguments: Vec<String>,
    password: Option<String>,
    child: Option<Child>,
    folder: tempfile::TempDir,
}

impl RedisServer {
    /// An empty server.
    pub fn start() -> Self {
        Self::with(&[], None)
    }

    /// A server that wants a password.
    pub fn with_password(password: &str) -> Self {
        Self::with(&["--requirepass", password], Some(password))
    }

    /// A cluster of one node.
    pub fn cluster() -> Self {
        let server = Self::with(&["--cluster-enabled", "yes"], None);
        let mut connection = server.connect();
        let add =
            redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(0).arg(16383).exec(&mut connection);
        add.expect("slots");
        wait("the cluster to be whole", || {
            let info: RedisResult<String> =
                redis::cmd("CLUSTER").arg("INFO").query(&mut connection);
            info.is_ok_and(|info| info.contains("cluster_state:ok")).then_some(())
        });
        server
    }

    /// A server with more arguments.
    pub fn with(arguments: &[&str], password: Option<&str>) -> Self {
        let mut server = Self {
            port: free_port(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            password: password.map(str::to_owned),
            child: None,
            folder: tempfile::tempdir().expect("a folder for Redis"),
        };
        server.start_again();
        server
    }

    /// Starts a killed server at its old address, empty.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "Redis runs already");
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port])
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| {
            panic!("redis-server cannot be started ({error}): run scripts/setup.sh redis")
        }));
        wait("Redis to answer", || {
            let child = self.child.as_mut().expect("just started");
            let ended = child.try_wait().expect("a child");
            assert!(ended.is_none(), "redis-server {:?} ended: {ended:?}", self.arguments);
            let mut connection = self.try_connect().ok()?;
            redis::cmd("PING").exec(&mut connection).ok()
        });
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is, with the password if it wants one.
    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}", self.port),
            None => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// Kills it; what it held is lost.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("still ours");
            child.wait().expect("ended");
        }
    }

    /// Stops the process where it is: connections stay open, nothing is answered.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        let child = self.child.as_ref().expect("Redis runs");
        // SAFETY: `kill` takes plain numbers; the process is our child and not yet waited for, so
        // its number is still its own.
        let outcome = unsafe { libc::kill(child.id() as libc::pid_t, signal) };
        assert_eq!(outcome, 0, "the signal is sent");
    }

    /// A connection to look into it.
    pub fn connect(&self) -> Connection {
        self.try_connect().expect("a connection")
    }

    fn try_connect(&self) -> RedisResult<Connection> {
        redis::Client::open(self.url())?.get_connection_with_timeout(Duration::from_secs(1))
    }

    /// Every key, in order.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.connect().keys("*").expect("keys");
        keys.sort();
        keys
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Vec<u8> {
        self.connect().get(key).expect("a value")
    }

    /// How many connections it has, the one that asks left out.
    pub fn connections(&self) -> usize {
        let list: String =
            redis::cmd("CLIENT").arg("LIST").query(&mut self.connect()).expect("a list");
        list.lines().count() - 1
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks until there is something to see.
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}
