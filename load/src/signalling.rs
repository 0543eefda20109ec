//! WebSockets to the server, on a thread of their own, so that a slow TLS handshake never delays a packet.
//!
//! A participant's task hands on what comes and sends what it is given; what a message means is `participant`'s
//! affair.

use std::io;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol::signal_request::Message as ToServer;
use livekit_protocol::signal_response::Message as FromServer;
use livekit_protocol::{Ping, SignalRequest, SignalResponse};
use prost::Message as _;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header::AUTHORIZATION};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::failure::JoinFailure;
use crate::videoroom::Visit;

/// As the reference server asks its clients.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Of a refusal's body, as much as is shown.
const MAX_TEXT: usize = 300;

/// News of a participant's WebSocket.
#[derive(Debug)]
pub(crate) enum News {
    Message(Box<FromServer>),
    /// The end.
    Failed(JoinFailure),
}

/// See the module's page. Its thread ends when this is dropped.
pub(crate) struct Signalling {
    tasks: Handle,
    tell: std_mpsc::Sender<(usize, News)>,
    told: std_mpsc::Receiver<(usize, News)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Signalling {
    pub(crate) fn start() -> io::Result<Signalling> {
        // TLS takes the process's provider; somebody may have chosen the same one before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let tasks = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("signalling".to_owned()).spawn(move || {
            // Either way it is over.
            let _ = runtime.block_on(stopped);
        })?;
        let (tell, told) = std_mpsc::channel();
        Ok(Signalling { tasks, tell, told, stop: Some(stop), thread: Some(thread) })
    }

    /// Opens a WebSocket for participant `who`. What is sent before it is open is sent then; it closes when the
    /// sender is dropped.
    pub(crate) fn open(&self, who: usize, url: String, token: &str) -> mpsc::UnboundedSender<ToServer> {
        let bearer = HeaderValue::try_from(format!("Bearer {token}"));
        self.spawn(who, |requests, teller| async move {
            match bearer {
                Ok(bearer) => session(url, bearer, requests, &teller).await,
                Err(error) => JoinFailure::Local(error.to_string()),
            }
        })
    }

    /// The same for a VideoRoom.
    pub(crate) fn visit(&self, who: usize, url: String, visit: Visit) -> mpsc::UnboundedSender<ToServer> {
        self.spawn(who, |requests, teller| async move { visit.session(url, requests, &teller).await })
    }

    /// `session` gets what is to be sent, and gives why it ended.
    fn spawn<S: Future<Output = JoinFailure> + Send + 'static>(
        &self,
        who: usize,
        session: impl FnOnce(mpsc::UnboundedReceiver<ToServer>, Teller) -> S,
    ) -> mpsc::UnboundedSender<ToServer> {
        let (send, requests) = mpsc::unbounded_channel();
        let teller = Teller { who, tell: self.tell.clone() };
        let session = session(requests, teller.clone());
        self.tasks.spawn(async move { teller.tell(News::Failed(session.await)) });
        send
    }

    /// The next news, if there are any.
    pub(crate) fn poll(&self) -> Option<(usize, News)> {
        self.told.try_recv().ok()
    }
}

impl Drop for Signalling {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One participant's way to tell news.
#[derive(Clone)]
pub(crate) struct Teller {
    who: usize,
    tell: std_mpsc::Sender<(usize, News)>,
}

impl Teller {
    /// Nobody listens when the run is over.
    pub(crate) fn tell(&self, news: News) {
        let _ = self.tell.send((self.who, news));
    }
}

/// Why it ended.
async fn session(
    url: String,
    bearer: HeaderValue,
    mut requests: mpsc::UnboundedReceiver<ToServer>,
    teller: &Teller,
) -> JoinFailure {
    let mut request = match url.into_client_request() {
        Ok(request) => request,
        Err(error) => return JoinFailure::Unreachable(error.to_string()),
    };
    request.headers_mut().insert(AUTHORIZATION, bearer);
    let mut socket = match tokio_tungstenite::connect_async(request).await {
        Ok((socket, _)) => socket,
        Err(error) => return refusal(error),
    };
    let mut ping = tokio::time::interval(PING_INTERVAL);
    loop {
        let sent = tokio::select! {
            frame = socket.next() => {
                match frame {
                    Some(Ok(Message::Binary(bytes))) => {
                        let message = SignalResponse::decode(bytes).ok().and_then(|response| response.message);
                        if let Some(message) = message {
                            teller.tell(News::Message(Box::new(message)));
                        }
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let why = frame.map_or_else(String::new, |frame| frame.reason.to_string());
                        return JoinFailure::Closed(why);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return JoinFailure::Closed(error.to_string()),
                    None => return JoinFailure::Closed("without a word".to_owned()),
                }
                Ok(())
            }
            request = requests.recv() => {
                let Some(message) = request else {
                    let _ = socket.close(None).await;
                    return JoinFailure::Closed("by ourselves".to_owned());
                };
                socket.send(encode(message)).await
            }
            _ = ping.tick() => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                socket.send(encode(ToServer::PingReq(Ping { timestamp: now.as_millis() as i64, rtt: 0 }))).await
            }
        };
        if let Err(error) = sent {
            return JoinFailure::Closed(error.to_string());
        }
    }
}

fn encode(message: ToServer) -> Message {
    Message::Binary(SignalRequest { message: Some(message) }.encode_to_vec().into())
}

pub(crate) fn refusal(error: Error) -> JoinFailure {
    match error {
        Error::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let text = String::from_utf8_lossy(&body[..body.len().min(MAX_TEXT)]).trim().to_owned();
            JoinFailure::Refused { status: response.status().as_u16(), text }
        }
        other => JoinFailure::Unreachable(other.to_string()),
    }
}
