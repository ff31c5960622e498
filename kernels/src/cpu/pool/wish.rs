//! What a thread is to fetch from memory while it waits.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cpu::ceiling::fetch;

/// Places that are fetched from by turns.
pub(crate) const PLACES: usize = 4;
/// Bytes that are fetched at a time.
const LINE: usize = 64;

/// A wish, and how many bytes from each place on; none if nothing is wished.
#[derive(Default)]
pub(super) struct Wish {
    places: [AtomicUsize; PLACES],
    bytes: AtomicUsize,
}

/// A wish that is being fulfilled.
#[derive(Default)]
pub(super) struct Fetching {
    places: [usize; PLACES],
    done: usize,
    bytes: usize,
}

impl Wish {
    pub(super) fn make(&self, places: [*const u8; PLACES], bytes: usize) {
        for (slot, place) in self.places.iter().zip(places) {
            slot.store(place.addr(), Ordering::Relaxed);
        }
        self.bytes.store(bytes, Ordering::Release);
    }
}

impl Fetching {
    /// Begins to fetch a line of each place, those of a new wish if there is one; says whether there was anything to fetch. Whatever is read of a wish that
    /// is being made is harmless: fetching changes nothing but caches.
    #[inline]
    pub(super) fn go_on(&mut self, wish: &Wish) -> bool {
        if wish.bytes.load(Ordering::Relaxed) > 0 {
            self.bytes = wish.bytes.swap(0, Ordering::Acquire);
            self.places = std::array::from_fn(|i| wish.places[i].load(Ordering::Relaxed));
            self.done = 0;
        }
        if self.done >= self.bytes {
            return false;
        }
        for place in self.places {
            fetch(std::ptr::without_provenance::<u8>(place).wrapping_add(self.done));
        }
        self.done += LINE;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_fulfilled_once_and_the_latest_counts() {
        let (wish, bytes) = (Wish::default(), [0u8; 256]);
        let mut fetching = Fetching::default();
        assert!(!fetching.go_on(&wish));
        wish.make([bytes.as_ptr(); PLACES], 256);
        assert!((0..2).all(|_| fetching.go_on(&wish)));
        wish.make([bytes.as_ptr(); PLACES], 128);
        let turns = (0..10).filter(|_| fetching.go_on(&wish)).count();
        assert_eq!(turns, 2);
    }
}
