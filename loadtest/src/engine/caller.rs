//! One question at a time, as a task of an API server would ask.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

use super::{Seat, Worker};
use crate::driver::Asker;
use crate::question::Question;
use crate::record::Asked;

/// What the pacer and the task share.
#[derive(Default)]
pub(super) struct Shared {
    next: RefCell<Option<(Asked, Question)>>,
    busy: Cell<bool>,
    woken: Notify,
}

impl Shared {
    pub(super) fn in_flight(&self) -> usize {
        usize::from(self.busy.get())
    }
}

impl Seat for Shared {
    fn room(&self) -> usize {
        usize::from(!self.busy.get())
    }

    fn put(&self, due: u64, now: u64, questions: &[Question]) {
        if let Some(question) = questions.first() {
            self.busy.set(true);
            *self.next.borrow_mut() = Some((Asked { due, sent: now, expect: question.expect }, *question));
        }
        self.woken.notify_one();
    }
}

/// Asks until the worker stops.
pub(super) async fn serve(shared: Rc<Shared>, asker: Rc<dyn Asker>, worker: Rc<Worker>) -> Result<(), String> {
    loop {
        let next = shared.next.borrow_mut().take();
        let (asked, question) = match next {
            Some(next) => next,
            None if worker.stopping.get() => return Ok(()),
            None if worker.closed => {
                let (question, now) = (worker.workload.borrow_mut().next(), worker.now());
                shared.busy.set(true);
                worker.recorder.borrow_mut().sent(now, now, 1, false);
                (Asked { due: now, sent: now, expect: question.expect }, question)
            }
            None => {
                shared.woken.notified().await;
                continue;
            }
        };
        let said = asker.ask(question).await;
        let now = worker.now();
        worker.recorder.borrow_mut().answered(&asked, said, now);
        shared.busy.set(false);
        worker.room.notify_one();
    }
}
