//! Work on every core, piece by piece, beside the engine's own threads: for loops that are not
//! products of matrices.

use std::sync::Mutex;

/// How many threads `asked` are; 0 asks for one for each core.
pub(crate) fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    }
}

/// Calls `f` with each piece, on so many threads. Which thread takes which piece changes nothing.
pub(crate) fn share<T: Send>(asked: usize, work: Vec<T>, f: &(dyn Fn(T) + Sync)) {
    let threads = threads(asked).min(work.len());
    let queue = Mutex::new(work.into_iter());
    let next = || queue.lock().unwrap_or_else(|e| e.into_inner()).next();
    let worker = || {
        while let Some(piece) = next() {
            f(piece);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread this one does it all.
            let _ = std::thread::Builder::new().spawn_scoped(scope, worker);
        }
        worker();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once() {
        for threads in [1, 2, 7] {
            let mut numbers = vec![0u32; 100];
            let pieces: Vec<(usize, &mut [u32])> = numbers.chunks_mut(7).enumerate().collect();
            share(threads, pieces, &|(i, piece)| piece.iter_mut().for_each(|x| *x += i as u32 + 1));
            let want = (0..100).map(|i| i / 7 + 1);
            assert!(numbers.iter().copied().eq(want));
        }
    }
}
