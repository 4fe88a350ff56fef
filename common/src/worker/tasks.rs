//! The futures that run on a worker. They are polled in its turns only.
//!
//! Those of a stream end with it. Those that may outlive their stream are handed out when nobody is
//! left who could have the worker take a turn.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::waiting::StreamId;
use super::wakeups::{Ready, Wakeups};

/// What is run.
pub(crate) enum Work {
    /// A stream's, which ends with it.
    Bound(Pin<Box<dyn Future<Output = ()>>>),
    /// What may go on without a stream, and elsewhere.
    Detached(DetachedWork),
}

/// Work that goes on wherever it is polled.
pub(crate) type DetachedWork = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Names a task. It says nothing once the task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskId {
    slot: usize,
    era: u64,
}

struct Slot {
    era: u64,
    work: Option<Work>,
    /// Whom to tell when it has ended.
    stream_id: Option<StreamId>,
    // A slot keeps its waker: what a task that has ended wakes is another's spurious poll.
    wakes: Arc<TaskWaker>,
    waker: Waker,
}

/// Wakes what is in a slot.
struct TaskWaker {
    slot: usize,
    wakeups: Arc<Wakeups>,
    queued: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            // Without a carrier it waits for the next one: a task needs its worker.
            let _ = self.wakeups.wake(Ready::Task(self.slot));
        }
    }
}

/// A task that is taken out to be polled. Nothing of the worker is borrowed meanwhile.
pub(crate) struct Taken {
    slot: usize,
    work: Work,
    waker: Waker,
}

impl Taken {
    /// Polls it.
    pub(crate) fn poll(&mut self) -> Poll<()> {
        let mut cx = Context::from_waker(&self.waker);
        match &mut self.work {
            Work::Bound(work) => work.as_mut().poll(&mut cx),
            Work::Detached(work) => work.as_mut().poll(&mut cx),
        }
    }
}

/// All tasks of a worker.
#[derive(Default)]
pub(crate) struct Tasks {
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Slots with work that may go on elsewhere.
    detached: BTreeSet<usize>,
}

impl Tasks {
    /// Adds `work`, which is polled in the next turn.
    pub(crate) fn add(
        &mut self,
        work: Work,
        stream_id: Option<StreamId>,
        wakeups: &Arc<Wakeups>,
    ) -> (TaskId, Waker) {
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                let slot = self.slots.len();
                let wakes = Arc::new(TaskWaker {
                    slot,
                    wakeups: Arc::clone(wakeups),
                    queued: AtomicBool::new(false),
                });
                let waker = Waker::from(Arc::clone(&wakes));
                self.slots.push(Slot { era: 0, work: None, stream_id: None, wakes, waker });
                slot
            }
        };
        if matches!(work, Work::Detached(_)) {
            self.detached.insert(number);
        }
        match self.slots.get_mut(number) {
            Some(slot) => {
                (slot.work, slot.stream_id) = (Some(work), stream_id);
                (TaskId { slot: number, era: slot.era }, slot.waker.clone())
            }
            // The number is one of a slot.
            None => (TaskId { slot: number, era: 0 }, Waker::noop().clone()),
        }
    }

    /// Takes the task in `slot` out, to be polled.
    pub(crate) fn take(&mut self, slot: usize) -> Option<Taken> {
        let entry = self.slots.get_mut(slot)?;
        // Cleared before the poll: what wakes it from now on is seen after it.
        entry.wakes.queued.store(false, Ordering::Release);
        Some(Taken { slot, work: entry.work.take()?, waker: entry.waker.clone() })
    }

    /// Puts a task back that goes on.
    pub(crate) fn put_back(&mut self, task: Taken) {
        if let Some(entry) = self.slots.get_mut(task.slot) {
            entry.work = Some(task.work);
        }
    }

    /// The task has ended. Whom to tell; its remains are to be dropped with nothing borrowed.
    pub(crate) fn ended(&mut self, task: Taken) -> (Option<StreamId>, Work) {
        let stream_id = self.slots.get_mut(task.slot).and_then(|entry| {
            entry.era += 1;
            entry.stream_id.take()
        });
        self.detached.remove(&task.slot);
        self.free.push(task.slot);
        (stream_id, task.work)
    }

    /// Removes a task before its end; to be dropped with nothing borrowed.
    pub(crate) fn cancel(&mut self, task: TaskId) -> Option<Work> {
        let entry = self.slots.get_mut(task.slot).filter(|entry| entry.era == task.era)?;
        entry.era += 1;
        entry.stream_id = None;
        let work = entry.work.take();
        self.detached.remove(&task.slot);
        self.free.push(task.slot);
        work
    }

    /// Takes out what may go on elsewhere.
    pub(crate) fn take_detached(&mut self) -> Vec<DetachedWork> {
        let mut out = Vec::new();
        for number in std::mem::take(&mut self.detached) {
            let Some(entry) = self.slots.get_mut(number) else { continue };
            match entry.work.take() {
                Some(Work::Detached(work)) => {
                    entry.era += 1;
                    self.free.push(number);
                    out.push(work);
                }
                // Not to be found here: it is being polled, and put back where it was.
                other => {
                    entry.work = other;
                    self.detached.insert(number);
                }
            }
        }
        out
    }

    /// Takes all of them out.
    pub(crate) fn clear(&mut self) -> Vec<Work> {
        self.slots.drain(..).filter_map(|slot| slot.work).collect()
    }
}
