//! A small mutator: what is interesting about bytes, without looking at what they do.

use rinfer_cli::fill::Random;

/// Bytes become other bytes, as a seed says.
pub struct Mutator {
    random: Random,
    longest: usize,
}

/// Numbers at the ends of ranges, and beside them.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

impl Mutator {
    /// One that makes no more than `longest` bytes.
    pub fn new(seed: u64, longest: usize) -> Mutator {
        Mutator { random: Random(seed), longest }
    }

    /// A number below `n`; 0 if there is none.
    fn below(&mut self, n: usize) -> usize {
        self.random.bits() as usize % n.max(1)
    }

    /// One of the seeds, changed in one to five places.
    pub fn next(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let at = self.below(seeds.len());
        let mut bytes = seeds.get(at).cloned().unwrap_or_default();
        for _ in 0..1 + self.below(5) {
            self.change(&mut bytes, seeds);
        }
        bytes.truncate(self.longest);
        bytes
    }

    /// A run of bytes: where it begins and ends.
    fn part(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len);
        let most = (len - start).min(if self.below(4) == 0 { len } else { 16 });
        start..start + self.below(most + 1)
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let len = bytes.len();
        match self.below(9) {
            0 | 1 if len > 0 => {
                let at = self.below(8 * len);
                bytes[at / 8] ^= 1 << (at % 8);
            }
            2 if len > 0 => {
                let at = self.below(len);
                bytes[at] = self.random.bits() as u8;
            }
            3 => bytes.truncate(self.below(len + 1)),
            4 => drop(bytes.drain(self.part(len))),
            // The same again, beside itself.
            5 => {
                let part = bytes[self.part(len)].to_vec();
                let at = self.below(len + 1);
                let times = 1 + self.below(4);
                bytes.splice(at..at, part.repeat(times));
            }
            6 => self.edge(bytes),
            7 => {
                let n = 1 + self.below(8);
                let new: Vec<u8> = (0..n).map(|_| self.random.bits() as u8).collect();
                let at = self.below(len + 1);
                bytes.splice(at..at, new);
            }
            // A part of another seed in the place of a part of this one.
            _ => {
                let other = seeds.get(self.below(seeds.len())).map_or(&[][..], |x| x);
                let part = other[self.part(other.len())].to_vec();
                let place = self.part(len);
                bytes.splice(place, part);
            }
        }
    }

    /// A number at the end of a range, little- or big-endian, as a varint, or in digits.
    fn edge(&mut self, bytes: &mut Vec<u8>) {
        let number = EDGES[self.below(EDGES.len())];
        let width = 1 << self.below(4);
        let new = match self.below(4) {
            0 => number.to_le_bytes()[..width].to_vec(),
            1 => number.to_be_bytes()[8 - width..].to_vec(),
            2 => varint(number),
            _ => number.to_string().into_bytes(),
        };
        let at = self.below(bytes.len() + 1);
        let end = if self.below(2) == 0 { at } else { bytes.len().min(at + new.len()) };
        bytes.splice(at..end, new);
    }
}

/// Seven bits a byte, as protobuf writes numbers.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_and_most_changes_change_something() {
        let seeds = [b"a model".to_vec(), b"another one, longer".to_vec(), Vec::new()];
        let all = |seed| {
            let mut mutator = Mutator::new(seed, 64);
            (0..1000).map(|_| mutator.next(&seeds)).collect::<Vec<_>>()
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        let made = all(3);
        assert!(made.iter().all(|bytes| bytes.len() <= 64));
        assert!(made.iter().filter(|bytes| seeds.contains(bytes)).count() < 200);
    }

    #[test]
    fn varints_are_those_of_protobuf() {
        assert_eq!(varint(1), [1]);
        assert_eq!(varint(300), [0xac, 2]);
        assert_eq!(varint(u64::MAX).len(), 10);
    }
}
