//! The phases of a proxy, and the count of what goes on in it.

use std::future::Future;

use tokio::sync::watch;

/// A phase. Phases only go on to later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Takes connections and calls.
    Serving,
    /// Takes no connection more, and waits for calls. Calls without an end are cut off.
    Ending,
    /// Cuts off all calls but those that an answer has a part in.
    Cutting,
}

/// The phase of a proxy, for whoever waits for one.
#[derive(Clone, Debug)]
pub(super) struct Phases(watch::Sender<Phase>);

impl Phases {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    pub(super) fn go_on_to(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    /// Waits for a phase, or a later one.
    pub(super) fn reaches(
        &self,
        phase: Phase,
    ) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut receiver = self.0.subscribe();
        async move {
            // The sender lives as long as the proxy.
            if receiver.wait_for(|now| *now >= phase).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// A number of things that go on.
#[derive(Clone, Debug)]
pub(super) struct Count(watch::Sender<usize>);

/// A thing that goes on until the value is dropped.
#[derive(Debug)]
pub(super) struct Counted(Count);

impl Count {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    pub(super) fn one(&self) -> Counted {
        self.0.send_modify(|count| *count = count.saturating_add(1));
        Counted(self.clone())
    }

    /// Counts one, unless there are `limit`.
    pub(super) fn one_below(&self, limit: usize) -> Option<Counted> {
        let is_counted = self.0.send_if_modified(|count| {
            let has_room = *count < limit;
            *count += usize::from(has_room);
            has_room
        });
        is_counted.then(|| Counted(self.clone()))
    }

    pub(super) fn now(&self) -> usize {
        *self.0.borrow()
    }

    /// Waits until nothing goes on.
    pub(super) async fn none(&self) {
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
