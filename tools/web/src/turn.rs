//! Promises of when to go on: what a run or a readback waits for tells its waker, and that the page.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Wake, Waker};

use js_sys::{Function, Promise};
use wasm_bindgen::JsValue;

thread_local! {
    /// What is to be called when a turn comes, by its number: a waker must be able to go to other
    /// threads, functions of JavaScript cannot.
    static CALLS: RefCell<HashMap<u32, Function>> = RefCell::default();
}

static LAST: AtomicU32 = AtomicU32::new(0);

/// Whether there is something to do.
pub(crate) struct Turn {
    number: u32,
    come: AtomicBool,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.come.store(true, Ordering::Relaxed);
        if let Some(resolve) = CALLS.with_borrow_mut(|calls| calls.remove(&self.number)) {
            // The function of a promise does not throw.
            let _ = resolve.call0(&JsValue::UNDEFINED);
        }
    }
}

impl Turn {
    pub fn new() -> Arc<Turn> {
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        Arc::new(Turn { number, come: AtomicBool::new(false) })
    }

    /// Tells this turn.
    pub fn waker(self: &Arc<Turn>) -> Waker {
        self.clone().into()
    }

    /// What was told until now is being done.
    pub fn begin(&self) {
        self.come.store(false, Ordering::Relaxed);
    }

    /// Resolves when there is something to do.
    pub fn promise(&self) -> Promise {
        if self.come.load(Ordering::Relaxed) {
            return Promise::resolve(&JsValue::UNDEFINED);
        }
        Promise::new(&mut |resolve, _| {
            CALLS.with_borrow_mut(|calls| calls.insert(self.number, resolve));
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        CALLS.with_borrow_mut(|calls| calls.remove(&self.number));
    }
}
