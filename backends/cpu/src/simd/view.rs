//! A block of a row-major matrix that can be cut by rows and by columns and handed to threads.

use std::marker::PhantomData;

/// `rows × cols` elements in rows that start `stride` apart; the only way to reach them.
///
/// Blocks cut from one matrix never overlap, which slices alone cannot say of columns.
#[derive(Debug)]
pub struct MatMut<'a, T> {
    data: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: a block is an exclusive borrow of its elements, as `&mut [T]` is.
unsafe impl<T: Send> Send for MatMut<'_, T> {}
// SAFETY: `&MatMut` gives no access to elements but through `&T`.
unsafe impl<T: Sync> Sync for MatMut<'_, T> {}

impl<'a, T> MatMut<'a, T> {
    /// The matrix in `data`.
    ///
    /// # Panics
    /// A row is longer than `stride` (and there is more than one), or `data` is too short.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(cols <= stride || rows <= 1, "rows of {cols} do not fit a stride of {stride}");
        let last = rows.checked_sub(1).and_then(|r| r.checked_mul(stride)?.checked_add(cols));
        let need = if rows == 0 { Some(0) } else { last };
        assert!(
            need.is_some_and(|n| n <= data.len()),
            "{rows} x {cols} with a stride of {stride} needs more than {} elements",
            data.len()
        );
        MatMut { data: data.as_mut_ptr(), rows, cols, stride, life: PhantomData }
    }

    /// Number of rows.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    #[inline(always)]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Row `i`.
    #[inline(always)]
    pub fn row(&mut self, i: usize) -> &mut [T] {
        assert!(i < self.rows);
        // SAFETY: `new` saw that row `i` lies in the borrowed slice; the block owns its columns.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(i * self.stride), self.cols) }
    }

    /// Rows `..at` and rows `at..`.
    pub fn split_rows(self, at: usize) -> (Self, Self) {
        assert!(at <= self.rows);
        // At the end there may be no element to point to: stay at the start, with no rows.
        let skip = if at < self.rows { at * self.stride } else { 0 };
        // SAFETY: the offset is that of an existing row, or zero.
        let data = unsafe { self.data.add(skip) };
        (MatMut { rows: at, ..self }, MatMut { data, rows: self.rows - at, ..self })
    }

    /// Columns `..at` and columns `at..`.
    pub fn split_cols(self, at: usize) -> (Self, Self) {
        assert!(at <= self.cols);
        let skip = if self.rows > 0 { at } else { 0 };
        // SAFETY: the offset is within (or one past) the first row.
        let data = unsafe { self.data.add(skip) };
        (MatMut { cols: at, ..self }, MatMut { data, cols: self.cols - at, ..self })
    }

    /// Rows `row..row + rows`, columns `col..col + cols`, borrowed for less long.
    pub fn block(&mut self, row: usize, rows: usize, col: usize, cols: usize) -> MatMut<'_, T> {
        assert!(row <= self.rows && rows <= self.rows - row);
        assert!(col <= self.cols && cols <= self.cols - col);
        let empty = rows == 0 || cols == 0;
        let skip = if empty { 0 } else { row * self.stride + col };
        // SAFETY: the offset is that of an existing element, or zero.
        let data = unsafe { self.data.add(skip) };
        MatMut { data, rows, cols, stride: self.stride, life: PhantomData }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_the_matrix_once() {
        let mut data = [0; 11];
        let matrix = MatMut::new(&mut data, 3, 3, 4);
        let (top, mut bottom) = matrix.split_rows(1);
        let (mut left, mut right) = top.split_cols(2);
        left.row(0).fill(1);
        right.row(0).fill(2);
        bottom.block(1, 1, 1, 2).row(0).fill(4);
        bottom.row(0).fill(3);
        assert_eq!(data, [1, 1, 2, 0, 3, 3, 3, 0, 0, 4, 4]);
    }

    #[test]
    fn an_empty_matrix_splits_into_empty_ones() {
        let matrix = MatMut::new(&mut [0i32; 0], 0, 5, 5);
        let (a, b) = matrix.split_rows(0);
        let (c, _) = b.split_cols(5);
        assert_eq!((a.rows(), c.cols()), (0, 5));
    }
}
