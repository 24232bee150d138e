//! A loopback port that can be closed and opened again, and the connections that came through it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, JoinSet};

use crate::wait::wait_until;

/// What is done with a connection.
type Serve = Arc<dyn Fn(Wire) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A port and the threads that serve it; dropping it ends every connection.
pub(crate) struct Gate {
    runtime: Runtime,
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    serve: Serve,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl Gate {
    /// Listens on a free port; every connection is given to `serve`.
    pub(crate) fn open<F>(serve: impl Fn(Wire) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("threads of a proxy");
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listener.expect("a free port");
        let gate = Self {
            runtime,
            address: listener.local_addr().expect("a bound address"),
            connections: Arc::default(),
            serve: Arc::new(move |wire| Box::pin(serve(wire))),
            accepting: Mutex::new(None),
        };
        gate.accept(listener);
        gate
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections are open now.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Ends all connections and refuses new ones, as if the server had been killed.
    pub(crate) fn close(&self) {
        let accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(accepting) = accepting else { return };
        accepting.abort();
        // The listener goes with the task, and the task is gone when it has been waited for.
        let _ = self.runtime.block_on(accepting);
        wait_until("the connections of a closed proxy to end", || self.connections() == 0);
    }

    /// Listens again, on the same port, if it has been closed.
    pub(crate) fn reopen(&self) {
        if self.accepting.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let listener = self.runtime.block_on(TcpListener::bind(self.address));
        self.accept(listener.expect("the same port again"));
    }

    fn accept(&self, listener: TcpListener) {
        let (serve, connections) = (Arc::clone(&self.serve), Arc::clone(&self.connections));
        let accepting = self.runtime.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // Ended ones need not be remembered.
                while served.try_join_next().is_some() {}
                served.spawn(serve(Wire::new(stream, &connections)));
            }
        });
        *self.accepting.lock().unwrap_or_else(PoisonError::into_inner) = Some(accepting);
    }
}

/// Tells a [`Wire`] to end with a reset (RST) instead of a farewell (FIN) when it is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reset(Arc<AtomicBool>);

impl Reset {
    /// Tells it.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A connection, counted as long as it exists. What is read is acknowledged at once: Garage leaves
/// Nagle's algorithm on, and would hold a body back for 40 ms.
pub(crate) struct Wire {
    stream: TcpStream,
    reset: Reset,
    connections: Arc<AtomicUsize>,
}

impl Wire {
    /// A connection that is counted in `connections`.
    pub(crate) fn new(stream: TcpStream, connections: &Arc<AtomicUsize>) -> Self {
        // An answer in several pieces must not wait for the acknowledgement of the first.
        stream.set_nodelay(true).expect("a socket option");
        connections.fetch_add(1, Ordering::AcqRel);
        Self { stream, reset: Reset::default(), connections: Arc::clone(connections) }
    }

    /// How to have it reset.
    pub(crate) fn reset(&self) -> Reset {
        self.reset.clone()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.reset.0.load(Ordering::Acquire) {
            // If that fails the client sees an ordinary end, which is bad enough.
            let _ = self.stream.set_zero_linger();
        }
        self.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &mut self.get_mut().stream;
        let outcome = Pin::new(&mut *stream).poll_read(context, buffer);
        if outcome.is_ready() {
            // The kernel falls back to delaying by itself; a failure makes it slower, nothing else.
            let _ = stream.set_quickack(true);
        }
        outcome
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
