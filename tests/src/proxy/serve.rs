//! Passing requests on, and the answers of a server that fails.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE, RETRY_AFTER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Sleep, sleep};

use super::gate::Wire;
use super::{Effect, Seen, Shared};

/// Why a connection ends without an answer, or within one.
#[derive(Debug)]
struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Broken {}

fn broken(cause: impl fmt::Display) -> Broken {
    Broken(cause.to_string())
}

type Answer = Response<BoxBody<Bytes, Broken>>;

/// How long half of an answer has to leave before the connection ends.
const FAREWELL: Duration = Duration::from_millis(20);

/// One byte of so many is changed in a wrong body: every inner chunk has some.
const WRONG_EVERY: usize = 251;

/// A client's connection as its requests see it.
struct Visit {
    shared: Arc<Shared>,
    /// The connection to the server that belongs to this client's: requests come one by one.
    server: Mutex<Option<SendRequest<Incoming>>>,
}

/// Serves a connection to its end.
pub(super) async fn connection(shared: Arc<Shared>, wire: Wire) {
    let reset = wire.reset();
    let visit = Arc::new(Visit { shared, server: Mutex::new(None) });
    let service = service_fn(move |request| {
        let (visit, reset) = (Arc::clone(&visit), reset.clone());
        async move {
            let answer = answer(&visit, request).await;
            // No answer is left to give: what a client sees of a server that is gone.
            answer.inspect_err(|e| {
                eprintln!("PROXY {e}");
                reset.set()
            })
        }
    });
    // How a connection ended is for the client to judge.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(wire), service)
        .await;
}

async fn answer(visit: &Visit, request: Request<Incoming>) -> Result<Answer, Broken> {
    let shared = &visit.shared;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let method = request.method().clone();
    let range = text(request.headers(), RANGE);
    let effect = shared.strike(method.as_str(), &path, range.as_deref().unwrap_or_default());
    shared.note(Seen { method: method.as_str().to_owned(), path: path.clone(), range, effect });
    let latency = Duration::from_micros(shared.latency.load(Ordering::Relaxed));
    if !latency.is_zero() {
        sleep(latency).await;
    }
    match effect {
        Some(Effect::InternalError) => {
            report(request, StatusCode::INTERNAL_SERVER_ERROR, "InternalError", None).await
        }
        Some(Effect::SlowDown(retry_after)) => {
            report(request, StatusCode::SERVICE_UNAVAILABLE, "SlowDown", retry_after).await
        }
        Some(Effect::Expired) => report(request, StatusCode::FORBIDDEN, "ExpiredToken", None).await,
        Some(Effect::Missing) => report(request, StatusCode::NOT_FOUND, "NoSuchKey", None).await,
        Some(Effect::Reset) => Err(broken("reset")),
        Some(Effect::Stall) => {
            shared.released().await;
            forward(visit, request).await
        }
        Some(Effect::Late(delay)) => {
            sleep(delay).await;
            forward(visit, request).await
        }
        Some(effect @ (Effect::HalfBody | Effect::WrongBody | Effect::ShortBody)) => {
            spoil(forward(visit, request).await?, effect).await
        }
        None => forward(visit, request).await,
    }
}

/// The server's own answer, or what kept it from coming, which is remembered.
async fn forward(visit: &Visit, request: Request<Incoming>) -> Result<Answer, Broken> {
    let asked = format!("{} {}", request.method(), request.uri());
    pass_on(visit, request)
        .await
        .inspect_err(|error| visit.shared.lost(format!("{asked}: {error}")))
}

/// The server's own answer. Method, host and path go on as they came: they are signed.
async fn pass_on(visit: &Visit, mut request: Request<Incoming>) -> Result<Answer, Broken> {
    // What a connection is told concerns only itself.
    request.headers_mut().remove(CONNECTION);
    let reading = request.method() == Method::GET;
    let mut kept = visit.server.lock().await;
    // One that the server has closed meanwhile is of no use.
    let usable = match kept.as_mut() {
        Some(server) => server.ready().await.is_ok(),
        None => false,
    };
    if !usable {
        *kept = Some(connect(visit.shared.upstream).await?);
    }
    let mut server = kept.as_mut().ok_or_else(|| broken("no connection"))?;
    let mut response = match server.try_send_request(request).await {
        Ok(response) => response,
        Err(mut error) => {
            let unsent = error.take_message().ok_or_else(|| broken(error.error()))?;
            // It was closed a moment ago, before anything was sent.
            server = kept.insert(connect(visit.shared.upstream).await?);
            server.send_request(unsent).await.map_err(broken)?
        }
    };
    response.headers_mut().remove(CONNECTION);
    if reading {
        let bytes = text(response.headers(), CONTENT_LENGTH).and_then(|text| text.parse().ok());
        visit.shared.bytes.fetch_add(bytes.unwrap_or(0), Ordering::Relaxed);
    }
    Ok(response.map(|body| body.map_err(broken).boxed()))
}

/// A new connection to the server. It ends when the client's does.
async fn connect(upstream: SocketAddr) -> Result<SendRequest<Incoming>, Broken> {
    let stream = TcpStream::connect(upstream).await.map_err(broken)?;
    let wire = Wire::new(stream, &Arc::default());
    let (server, driver) = handshake(TokioIo::new(wire)).await.map_err(broken)?;
    tokio::spawn(driver);
    Ok(server)
}

/// An error as S3 reports it. The request is read to its end first, as S3 does.
async fn report(
    request: Request<Incoming>,
    status: StatusCode,
    code: &str,
    retry_after: Option<u32>,
) -> Result<Answer, Broken> {
    let resource = request.uri().path().to_owned();
    request.into_body().collect().await.map_err(broken)?;
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>a fault of \
         the test</Message><Resource>{resource}</Resource><RequestId>0</RequestId></Error>"
    );
    let mut response = Response::builder().status(status).header(CONTENT_TYPE, "application/xml");
    if let Some(seconds) = retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    response.body(whole(body.into())).map_err(broken)
}

/// Damages the body of a good answer.
async fn spoil(answer: Answer, effect: Effect) -> Result<Answer, Broken> {
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    if !head.status.is_success() || body.is_empty() {
        return Ok(Response::from_parts(head, whole(body)));
    }
    let half = body.len() / 2;
    let body = match effect {
        Effect::WrongBody => {
            let mut body = body.to_vec();
            body.iter_mut().step_by(WRONG_EVERY).for_each(|byte| *byte ^= 0x55);
            whole(body.into())
        }
        Effect::ShortBody => {
            head.headers.insert(CONTENT_LENGTH, half.into());
            if let Some(range) = text(&head.headers, CONTENT_RANGE).and_then(|r| shorter(&r, half))
            {
                head.headers.insert(CONTENT_RANGE, range.parse().map_err(broken)?);
            }
            whole(body.slice(..half))
        }
        _ => {
            head.headers.insert(CONTENT_LENGTH, body.len().into());
            let part = Some(body.slice(..half));
            Half { part, length: body.len(), farewell: Box::pin(sleep(FAREWELL)) }.boxed()
        }
    };
    Ok(Response::from_parts(head, body))
}

/// A `Content-Range` of only the first `bytes` bytes of the same object.
fn shorter(range: &str, bytes: usize) -> Option<String> {
    let (start, _) = range.strip_prefix("bytes ")?.split_once('-')?;
    let start: usize = start.parse().ok()?;
    let end = start + bytes.max(1);
    Some(format!("bytes {start}-{}/{end}", end - 1))
}

fn text(headers: &hyper::HeaderMap, name: hyper::header::HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn whole(body: Bytes) -> BoxBody<Bytes, Broken> {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed()
}

/// A body that ends halfway.
struct Half {
    part: Option<Bytes>,
    length: usize,
    farewell: Pin<Box<Sleep>>,
}

impl Body for Half {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(part) = self.part.take() {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        // An error at once would keep what was written before it from being sent.
        ready!(self.farewell.as_mut().poll(context));
        Poll::Ready(Some(Err(broken("half of the body is enough"))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length as u64)
    }
}
