//! Where elements are: axes merged, and the WGSL that turns a number of an element into places.

use rinfer_graph::Reason;
use rinfer_graph::shape::Sizes;
use smallvec::SmallVec;

use crate::shader::Shader;

/// The axes of an output, and for each operand how far apart the elements along them are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Axes {
    pub sizes: Vec<usize>,
    pub strides: Vec<Vec<i64>>,
}

impl Axes {
    /// Axes that are one after the other in every operand become one, those of size 1 go.
    pub fn merged(sizes: &[usize], strides: &[Vec<i64>]) -> Axes {
        let mut axes = Axes { sizes: Vec::new(), strides: vec![Vec::new(); strides.len()] };
        for k in 0..sizes.len() {
            if sizes[k] == 1 {
                continue;
            }
            let n = sizes[k] as i64;
            let joins = |(old, new): (&Vec<i64>, &Vec<i64>)| {
                old.last().is_some_and(|&s| s == new[k].wrapping_mul(n))
            };
            if !axes.sizes.is_empty() && axes.strides.iter().zip(strides).all(joins) {
                *axes.sizes.last_mut().expect("not empty") *= sizes[k];
                for (old, new) in axes.strides.iter_mut().zip(strides) {
                    *old.last_mut().expect("as long as the sizes") = new[k];
                }
            } else {
                axes.sizes.push(sizes[k]);
                axes.strides.iter_mut().zip(strides).for_each(|(old, new)| old.push(new[k]));
            }
        }
        axes
    }

    /// Whether operand `i` is read in the order of the output.
    pub fn is_flat(&self, i: usize) -> bool {
        self.sizes.is_empty() || (self.sizes.len() == 1 && self.strides[i] == [1])
    }

    /// Lines that set `c0`, `c1`, … to the place of element `i` along the axes. Numbers are called
    /// after `name`.
    pub fn split(&self, shader: &mut Shader, name: &str) -> Result<String, Reason> {
        let mut text = format!("  var {name}_r = i;\n");
        for (k, &size) in self.sizes.iter().enumerate().rev() {
            if k == 0 {
                text.push_str(&format!("  let {name}_c0 = {name}_r;\n"));
                break;
            }
            shader.u32(&format!("{name}_n{k}"), size)?;
            text.push_str(&format!(
                "  let {name}_c{k} = {name}_r % p.{name}_n{k};\n  {name}_r /= p.{name}_n{k};\n"
            ));
        }
        Ok(text)
    }

    /// The place in operand `i`, from what [`Axes::split`] set.
    pub fn place(&self, shader: &mut Shader, name: &str, i: usize) -> Result<String, Reason> {
        let mut terms = Vec::new();
        for (k, &stride) in self.strides[i].iter().enumerate() {
            match stride {
                0 => {}
                1 => terms.push(format!("{name}_c{k}")),
                _ => {
                    let field = format!("{name}_s{}", shader.count());
                    shader.stride(&field, stride)?;
                    terms.push(format!("{name}_c{k} * p.{field}"));
                }
            }
        }
        Ok(if terms.is_empty() { "0u".to_string() } else { terms.join(" + ") })
    }

    /// A function `NAME(i)` that gives the place in operand `k` of element `i`.
    pub fn function(&self, shader: &mut Shader, name: &str, k: usize) -> Result<(), Reason> {
        if self.is_flat(k) {
            shader.code(&format!("fn {name}(i: u32) -> u32 {{ return i; }}"));
            return Ok(());
        }
        let split = self.split(shader, name)?;
        let place = self.place(shader, name, k)?;
        shader.code(&format!("fn {name}(i: u32) -> u32 {{\n{split}  return {place};\n}}"));
        Ok(())
    }
}

/// Row-major strides.
pub(crate) fn strides(sizes: &[usize]) -> Vec<i64> {
    rinfer_graph::shape::strides(sizes).iter().map(|&s| s as i64).collect()
}

/// The strides of an operand of these sizes, broadcast to `out`.
pub(crate) fn broadcast(sizes: &[usize], out: &[usize]) -> Vec<i64> {
    let own = strides(sizes);
    let missing = out.len() - sizes.len();
    (0..out.len())
        .map(|k| match k.checked_sub(missing) {
            Some(i) if sizes[i] != 1 => own[i],
            _ => 0,
        })
        .collect()
}

/// The number of elements.
pub(crate) fn count(sizes: &[usize]) -> usize {
    sizes.iter().product()
}

/// `sizes` in their order by `perm`.
pub(crate) fn permuted(sizes: &[usize], perm: &[usize]) -> Sizes {
    perm.iter().map(|&k| sizes[k]).collect::<SmallVec<_>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_in_one_go_are_one() {
        let axes = Axes::merged(&[2, 1, 3, 4], &[vec![12, 0, 4, 1], vec![0, 0, 4, 1]]);
        assert_eq!(axes.sizes, [2, 12]);
        assert_eq!(axes.strides, [vec![12, 1], vec![0, 1]]);
        assert!(Axes::merged(&[2, 3], &[vec![3, 1]]).is_flat(0));
        assert!(!Axes::merged(&[2, 3], &[vec![1, 2]]).is_flat(0));
    }

    #[test]
    fn an_operand_is_repeated_along_axes_it_lacks() {
        assert_eq!(broadcast(&[3, 1], &[2, 3, 4]), [0, 1, 0]);
    }
}
