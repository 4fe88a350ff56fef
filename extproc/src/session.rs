//! The exchange with the processor, off the worker: one bidirectional call for one request.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use callout_common::Outbox;
use callout_common::grpc::{CallError, Client, Failure, MetadataMap};
use callout_protos::envoy::service::ext_proc::v3::{ProcessingRequest, ProcessingResponse};
use futures::FutureExt;
use futures::channel::{mpsc, oneshot};
use prost::Message;

use crate::stream::Event;

const PROCESS: &str = "/envoy.service.ext_proc.v3.ExternalProcessor/Process";
/// How long a processor may take to end its side after ours has ended.
const LINGER: Duration = Duration::from_secs(1);

/// The worker's end of an exchange. Dropping it closes our side.
#[derive(Debug)]
pub(crate) struct Session {
    messages: mpsc::UnboundedSender<Bytes>,
    /// Dropped with the session: the exchange lingers, and then goes.
    _over: oneshot::Sender<()>,
}

impl Session {
    /// An exchange, and the work that carries it. The machine has at most one message outstanding
    /// in each direction, which bounds the queue.
    pub(crate) fn new(
        client: Client,
        metadata: MetadataMap,
        outbox: Outbox<Event>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (messages, queue) = mpsc::unbounded();
        let (over, ended) = oneshot::channel();
        let answers = outbox.clone();
        let exchange = async move {
            let exchange = async {
                let mut call = client.bidi(PROCESS, &metadata, queue).await?;
                while let Some(answer) = call.next::<ProcessingResponse>().await? {
                    if answers.send(Event::Answer(Box::new(answer))).is_err() {
                        // The stream is over; whatever else comes is read away until the end.
                        continue;
                    }
                }
                Ok::<(), CallError>(())
            };
            let lingering = async {
                let _ = ended.await;
                tokio::time::sleep(LINGER).await;
            };
            tokio::select! {
                result = exchange => result.map_err(Failure::Call),
                () = lingering => Ok(()),
            }
        };
        let work = async move {
            // A panic is logged by the panic hook; the stream learns that nothing more comes.
            let result =
                AssertUnwindSafe(exchange).catch_unwind().await.unwrap_or(Err(Failure::Lost));
            let _ = outbox.send(Event::Closed(result));
        };
        (Self { messages, _over: over }, work)
    }

    /// Sends a message. One that can't go any more is answered by the exchange's end.
    pub(crate) fn send(&self, message: &ProcessingRequest) {
        let _ = self.messages.unbounded_send(Bytes::from(message.encode_to_vec()));
    }
}
