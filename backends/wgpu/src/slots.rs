//! The memory of a plan: buffers that are used again once the values in them are dead.

/// Which slots hold living values.
#[derive(Default)]
pub(crate) struct Slots {
    pub sizes: Vec<usize>,
    users: Vec<usize>,
    idle: Vec<usize>,
    pub unshared: usize,
}

impl Slots {
    /// A slot that nothing used before.
    pub fn fresh(&mut self, bytes: usize) -> usize {
        self.unshared = self.unshared.saturating_add(bytes);
        self.sizes.push(bytes);
        self.users.push(1);
        self.sizes.len() - 1
    }

    /// The smallest idle slot that is large enough, or else the largest, grown, or a new one.
    pub fn take(&mut self, bytes: usize) -> usize {
        let fits = |&&slot: &&usize| self.sizes[slot] >= bytes;
        let best = self.idle.iter().filter(fits).min_by_key(|&&slot| self.sizes[slot]);
        let best = best.or_else(|| self.idle.iter().max_by_key(|&&slot| self.sizes[slot])).copied();
        let Some(slot) = best else { return self.fresh(bytes) };
        self.unshared = self.unshared.saturating_add(bytes);
        self.idle.retain(|&s| s != slot);
        self.sizes[slot] = self.sizes[slot].max(bytes);
        self.users[slot] = 1;
        slot
    }

    pub fn share(&mut self, slot: usize) {
        self.users[slot] += 1;
    }

    pub fn leave(&mut self, slot: usize) {
        self.users[slot] -= 1;
        if self.users[slot] == 0 {
            self.idle.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_when_all_views_of_it_are_dead() {
        let mut slots = Slots::default();
        let a = slots.take(100);
        slots.share(a);
        slots.leave(a);
        assert_ne!(slots.take(50), a);
        slots.leave(a);
        assert_eq!(slots.take(60), a);
        assert_eq!(slots.sizes, [100, 50]);
    }
}
