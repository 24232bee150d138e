//! An HTTP client for servers without TLS, whose sockets acknowledge what they read at once.
//!
//! A server that leaves Nagle's algorithm on (RFC 896; Garage does) sends the head of a response
//! and then holds the body back until the head is acknowledged, which Linux delays by 40 ms on a
//! connection in use. That turns a read of one millisecond into one of forty. The SDK's own client
//! gives no access to its sockets, so this one stands in for it on `http://` endpoints; behind
//! TLS there is a proxy that has Nagle's algorithm off.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector as SdkConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use hyper::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower_service::Service;

/// How long an unused connection is kept; shorter than servers keep theirs.
const IDLE: Duration = Duration::from_secs(15);

/// A client for the SDK. `connect_timeout` bounds the making of a connection.
pub(super) fn client(connect_timeout: Duration) -> SharedHttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect_timeout));
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(PromptConnector(connector));
    // One pool for all operations.
    let shared = SharedHttpConnector::new(PlainHttp(client));
    http_client_fn(move |_, _| shared.clone())
}

/// The SDK's view of the client.
struct PlainHttp(Client<PromptConnector, SdkBody>);

impl fmt::Debug for PlainHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainHttp")
    }
}

impl SdkConnector for PlainHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => {
                return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into())));
            }
        };
        let response = self.0.request(request);
        HttpConnectorFuture::new(async move {
            let response = response.await.map_err(failure)?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// A failed exchange, such that the SDK tries it again.
fn failure(error: Error) -> ConnectorError {
    if error.is_connect() {
        return ConnectorError::io(error.into()).never_connected();
    }
    ConnectorError::io(error.into())
}

/// Makes [`Prompt`] connections.
#[derive(Clone, Debug)]
struct PromptConnector(HttpConnector);

impl Service<Uri> for PromptConnector {
    type Response = TokioIo<Prompt>;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connection = self.0.call(uri);
        Box::pin(async move { Ok(TokioIo::new(Prompt(connection.await?.into_inner()))) })
    }
}

/// A connection that acknowledges whatever has been read.
struct Prompt(TcpStream);

impl Connection for Prompt {
    fn connected(&self) -> Connected {
        self.0.connected()
    }
}

impl AsyncRead for Prompt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.0).poll_read(context, buffer);
        if outcome.is_ready() {
            // The kernel falls back to delaying by itself, hence after every read. Without this
            // the connection is slower and nothing else, so a failure does not matter.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            let _ = self.0.set_quickack(true);
        }
        outcome
    }
}

impl AsyncWrite for Prompt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
