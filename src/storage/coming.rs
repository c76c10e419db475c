//! Owns bytes that are on their way from a store.

use std::io;
use std::sync::mpsc::Receiver;

use bytes::Bytes;

use super::outage;

/// Bytes that were asked for; dropping it gives them up.
pub(crate) struct Coming {
    receiver: Receiver<io::Result<Bytes>>,
    /// Ends the request when dropped.
    _request: Option<Box<dyn Send + Sync>>,
}

impl Coming {
    /// What `receiver` will have; `request` ends it when dropped.
    #[cfg(any(feature = "stores", test))]
    pub(super) fn new(
        receiver: Receiver<io::Result<Bytes>>,
        request: Box<dyn Send + Sync>,
    ) -> Coming {
        Coming { receiver, _request: Some(request) }
    }

    /// What failed before it was asked for.
    pub(super) fn failed(error: io::Error) -> Coming {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        // There is room for one, and the receiver is right here.
        let _ = sender.send(Err(error));
        Coming { receiver, _request: None }
    }

    /// Waits for the bytes.
    ///
    /// # Errors
    /// As the store says, after it was asked again for a bounded time.
    pub(crate) fn wait(self) -> io::Result<Bytes> {
        let gone = || io::Error::other("the connection's thread has ended");
        outage::noted(self.receiver.recv().map_err(|_| gone())?)
    }
}
