//! Many members at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use criu_rs::Hooks;

use crate::lab::Coordinator;

#[test]
fn a_hundred_members_wait_for_each_other() {
    const MEMBERS: usize = 100;
    let coordinator = Coordinator::plain();
    let ids: Vec<String> = (0..MEMBERS).map(|number| format!("rank-{number}")).collect();
    let needs: Vec<&str> = ids.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let arrived = AtomicUsize::new(0);
    let all_saved = AtomicUsize::new(0);
    thread::scope(|scope| {
        for id in &ids {
            let mut member = coordinator.member(id, &needs);
            let (arrived, all_saved) = (&arrived, &all_saved);
            scope.spawn(move || {
                member.pre_dump().unwrap();
                arrived.fetch_add(1, Ordering::SeqCst);
                member.network_lock().unwrap();
                // All were registered and running before the first network is locked.
                assert_eq!(arrived.load(Ordering::SeqCst), MEMBERS);
                all_saved.fetch_add(1, Ordering::SeqCst);
                member.post_dump().unwrap();
                assert_eq!(all_saved.load(Ordering::SeqCst), MEMBERS);
            });
        }
    });
    println!("{MEMBERS} members passed three steps in {:?}", begun.elapsed());
}
