//! Convolutions: the sizes of one, and the ways to compute it.

pub mod geometry;
pub mod reference;
#[cfg(test)]
pub(crate) mod testing;

pub use geometry::Geometry;
