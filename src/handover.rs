//! Into a bounded queue from where nobody can wait.

use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// Puts `message` in now, or as soon as there is room. Whoever reads no more hears nothing.
pub(crate) fn hand_over<T: Send + 'static>(queue: &Sender<T>, message: T) {
    if let Err(TrySendError::Full(message)) = queue.try_send(message)
        && let Ok(runtime) = Handle::try_current()
    {
        let queue = queue.clone();
        runtime.spawn(async move { queue.send(message).await });
    }
}
