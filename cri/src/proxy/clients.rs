//! The connections of clients.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::phase::{Count, Counted};

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Clients(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Arc<Client>>,
}

/// A connection of a client.
#[derive(Debug)]
pub(super) struct Client {
    calls: Count,
    /// The end of the last call, or the beginning.
    idle_since: Mutex<Instant>,
    /// Tells the connection to end.
    pub(super) end: Notify,
}

/// A connection in the table, until the value is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    clients: Arc<Clients>,
    number: u64,
    pub(super) client: Arc<Client>,
}

/// A call of a client, until the value is dropped.
#[derive(Debug)]
pub(super) struct Running {
    client: Arc<Client>,
    counted: Option<Counted>,
}

impl Clients {
    /// Adds a connection. With `limit` others, the one that has been without a call for longest is
    /// told to end. `None` if all have calls.
    pub(super) fn add(self: &Arc<Self>, limit: usize) -> Option<Entry> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.open.len() >= limit {
            let idle = table.open.iter().filter(|(_, client)| client.calls.now() == 0);
            let number = idle.min_by_key(|(_, client)| client.idle_since()).map(|(n, _)| *n)?;
            let gives_way = table.open.remove(&number)?;
            gives_way.end.notify_one();
        }
        let number = table.next;
        table.next = number.wrapping_add(1);
        let idle_since = Mutex::new(Instant::now());
        let client = Arc::new(Client { calls: Count::new(), idle_since, end: Notify::new() });
        table.open.insert(number, Arc::clone(&client));
        Some(Entry { clients: Arc::clone(self), number, client })
    }
}

impl Client {
    /// Counts a call.
    pub(super) fn run(self: &Arc<Self>) -> Running {
        Running { client: Arc::clone(self), counted: Some(self.calls.one()) }
    }

    fn idle_since(&self) -> Instant {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.client.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.counted = None;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.clients.0.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_that_is_idle_for_longest_gives_way() {
        let clients = Arc::new(Clients::default());
        let [first, second] = [(); 2].map(|()| clients.add(2).unwrap());
        let call = first.client.run();
        let third = clients.add(2).unwrap();
        let told = |entry: &Entry| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            std::pin::pin!(entry.client.end.notified()).poll(&mut context).is_ready()
        };
        assert_eq!([&first, &second, &third].map(told), [false, true, false]);
        let _other = third.client.run();
        assert!(clients.add(2).is_none());
        drop(call);
        assert!(clients.add(2).is_some());
        assert!(told(&first));
    }
}
