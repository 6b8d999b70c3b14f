//! Threads that are lent: a process of its own, for there is one such pool in each.
#![cfg(feature = "threads")]

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread;

use rinfer_cpu::par::{self, Pool};

#[test]
fn threads_that_are_lent_share_the_work() {
    assert_eq!(par::work().unwrap_err(), "the pool has all its threads");
    par::host(3).unwrap();
    assert_eq!(par::host(2).unwrap_err(), "threads are lent once");
    for _ in 0..2 {
        thread::spawn(par::work);
    }
    let pool = Pool::new(0).unwrap();
    assert_eq!((pool.threads(), Pool::new(2).unwrap().threads()), (3, 3));
    assert_eq!(Pool::new(1).unwrap().threads(), 1);

    let seen = Mutex::new(HashSet::new());
    let mut all = vec![0; 100];
    // Until every thread was seen: the others may come later.
    while seen.lock().unwrap().len() < 3 {
        pool.install(|| {
            par::chunks_mut(&mut all, 1, 1, |i, y| {
                y[0] = i;
                thread::sleep(std::time::Duration::from_micros(100));
                seen.lock().unwrap().insert(thread::current().id());
            });
        });
    }
    assert!(all.iter().enumerate().all(|(i, &y)| i == y));
    assert!(seen.lock().unwrap().contains(&thread::current().id()), "the caller works too");
}
