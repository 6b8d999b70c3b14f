//! Memory that runs leave behind for the runs after them.

use rinfer_graph::Reason;
use rinfer_graph::sync::{Mutex, MutexGuard};
use rinfer_graph::tensor::{Buffer, KEEP_TIME, try_buffer};
use web_time::Instant;

use crate::plan::Plan;
use crate::pool::{self, Shelf};

/// The buffers of a plan's slots; `None` while a value holds one.
pub(crate) type Slots = Vec<Option<Buffer>>;

/// What a run of a plan has for itself.
#[derive(Default)]
pub(crate) struct Room {
    /// The memory of its values.
    pub slots: Slots,
    /// The memory that its steps take besides, outside of loops.
    pub scratch: Shelf,
}

/// Arenas that no run uses at the moment.
#[derive(Default)]
pub(crate) struct Arenas(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    runs: u64,
    arenas: Vec<Arena>,
}

struct Arena {
    /// Which plan it fits: the plan's address serves as its name, and is never followed.
    plan: usize,
    last_used: u64,
    since: Instant,
    room: Room,
}

/// An arena that no run of this many took, or none for [`KEEP_TIME`], is given back to the system.
const KEEP_FOR: u64 = 16;

fn name(plan: &Plan) -> usize {
    std::ptr::from_ref(plan) as usize
}

impl Arenas {
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Buffers for a plan: those of its last run, or those of another plan where they fit.
    pub fn take(&self, plan: &Plan) -> Result<Room, Reason> {
        let mut idle = self.lock();
        idle.runs += 1;
        let mine = idle.arenas.iter().rposition(|a| a.plan == name(plan));
        let found = mine.or(idle.arenas.len().checked_sub(1)).map(|i| idle.arenas.swap_remove(i));
        drop(idle);
        let room = match found {
            Some(Arena { plan: of, room, .. }) if of == name(plan) && fits(&room.slots, plan) => {
                return Ok(Room { slots: fill(room.slots, plan)?, ..room });
            }
            found => found.map(|arena| arena.room).unwrap_or_default(),
        };
        let Room { slots, mut scratch } = room;
        pool::shrink(&mut scratch, plan.scratch.once_bytes());
        let mut spare: Vec<Buffer> = slots.into_iter().flatten().collect();
        // The largest first, each taking the smallest spare buffer that holds it and is not far
        // too large: what is left over goes back to the system.
        spare.sort_by_key(Vec::len);
        let mut by_size: Vec<usize> = (0..plan.slots.len()).collect();
        by_size.sort_by_key(|&slot| std::cmp::Reverse(plan.slots[slot]));
        let mut slots: Slots = vec![None; plan.slots.len()];
        for slot in by_size {
            let (bytes, lines) = (plan.slots[slot], plan.slots[slot].div_ceil(64));
            let at = spare.partition_point(|buffer| buffer.len() < lines);
            if spare.get(at).is_some_and(|buffer| buffer.len() <= 2 * lines + 64) {
                slots[slot] = Some(spare.remove(at));
            } else if at > 0 && spare[at - 1].len() >= lines - lines / 4 {
                // One that is just too small: shapes grow. A little more than needed, so that the
                // next ones find it large enough.
                drop(spare.remove(at - 1));
                slots[slot] = Some(try_buffer(bytes.saturating_add(bytes / 8))?);
            }
        }
        Ok(Room { slots: fill(slots, plan)?, scratch })
    }

    /// Keeps the buffers for later runs.
    pub fn give_back(&self, plan: &Plan, room: Room) {
        let since = Instant::now();
        let mut idle = self.lock();
        let runs = idle.runs;
        let keep = |arena: &Arena| {
            let idle = since.duration_since(arena.since);
            arena.last_used + KEEP_FOR > runs && idle < KEEP_TIME
        };
        let old = idle.arenas.extract_if(.., |arena| !keep(arena)).collect::<Vec<_>>();
        idle.arenas.push(Arena { plan: name(plan), last_used: runs, since, room });
        drop(idle);
        // Giving memory back takes the system a while: not under the lock.
        drop(old);
    }

    /// Gives everything back to the system.
    pub fn trim(&self) {
        let old = std::mem::take(&mut self.lock().arenas);
        drop(old);
    }
}

/// Two plans may come to live at one address, one after the other: sizes decide.
fn fits(slots: &Slots, plan: &Plan) -> bool {
    let large = |(buffer, &bytes): (&Option<Buffer>, &usize)| {
        buffer.as_ref().is_none_or(|buffer| buffer.len() * 64 >= bytes)
    };
    slots.len() == plan.slots.len() && slots.iter().zip(&plan.slots).all(large)
}

/// Makes the buffers that are missing.
fn fill(mut slots: Slots, plan: &Plan) -> Result<Slots, Reason> {
    for (buffer, &bytes) in slots.iter_mut().zip(&plan.slots) {
        if buffer.is_none() {
            *buffer = Some(try_buffer(bytes)?);
        }
    }
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn plan(bytes: usize) -> Plan {
        Plan { slots: vec![bytes], unshared: bytes, ..Plan::default() }
    }

    fn idle_bytes(arenas: &Arenas) -> usize {
        let idle = arenas.lock();
        let buffers = idle.arenas.iter().flat_map(|a| a.room.slots.iter().flatten());
        buffers.map(|buffer| buffer.len() * 64).sum()
    }

    fn run(arenas: &Arenas, plan: &Plan) {
        let room = arenas.take(plan).unwrap();
        assert!(room.slots[0].as_ref().unwrap().len() * 64 >= plan.slots[0]);
        arenas.give_back(plan, room);
    }

    #[test]
    fn what_a_large_run_took_goes_back_once_small_runs_follow() {
        let (small, large) = (plan(1 << 20), plan(10 << 20));
        let arenas = Arenas::default();
        run(&arenas, &small);
        let steady = idle_bytes(&arenas);
        // Both at the same time, so that both have an arena.
        let (a, b) = (arenas.take(&large).unwrap(), arenas.take(&small).unwrap());
        arenas.give_back(&large, a);
        arenas.give_back(&small, b);
        assert!(idle_bytes(&arenas) > 10 * (1 << 20));
        std::thread::sleep(KEEP_TIME + Duration::from_millis(50));
        run(&arenas, &small);
        assert_eq!(idle_bytes(&arenas), steady);
        run(&arenas, &large);
        (0..KEEP_FOR + 1).for_each(|_| run(&arenas, &small));
        assert_eq!(idle_bytes(&arenas), steady);
        arenas.trim();
        assert_eq!(idle_bytes(&arenas), 0);
    }
}
