//! Values that may be absent.
use std::sync::Arc;

use rinfer_graph::ops::Optional;
use rinfer_graph::{Bool, Reason, Tensor, Value, invalid};

use crate::kernel::Kernel;

pub(super) fn compile(op: &Optional) -> Result<Kernel, Reason> {
    let op = op.clone();
    Ok(Kernel::values(move |inputs, _| {
        let x = inputs.first().and_then(Option::as_ref);
        run(&op, x).map(|y| vec![y])
    }))
}

fn run(op: &Optional, x: Option<&Value>) -> Result<Value, Reason> {
    let missing = || invalid!("input 0 is missing");
    Ok(match op {
        Optional::Some => {
            let x = x.ok_or_else(missing)?;
            Value::Optional { of: x.ty(), value: Some(Arc::new(x.clone())) }
        }
        Optional::None(of) => Value::Optional { of: of.clone(), value: None },
        // A loop may hand on an optional first and then what it holds: the value decides.
        Optional::GetElement => match x.ok_or_else(missing)? {
            Value::Optional { value: Some(value), .. } => (**value).clone(),
            Value::Optional { value: None, of } => {
                return Err(invalid!("the element of an empty optional({of}) is asked for"));
            }
            other => other.clone(),
        },
        Optional::HasElement => {
            let has = !matches!(x, None | Some(Value::Optional { value: None, .. }));
            Tensor::scalar(Bool::from(has)).into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::testing::run_opt;
    use crate::simd::Isa;
    use rinfer_graph::{DType, Type};

    fn eval(op: Optional, x: Option<Value>) -> Result<Value, Reason> {
        run_opt(Isa::available()[0], op, &[x], 1).map(|mut y| y.remove(0))
    }

    #[test]
    fn what_goes_in_comes_out() {
        let x = Value::from(Tensor::vector(&[1f32, 2.0]));
        let o = eval(Optional::Some, Some(x.clone())).unwrap();
        assert_eq!(eval(Optional::GetElement, Some(o)).unwrap(), x);
    }

    #[test]
    fn an_empty_optional_has_no_element() {
        let o = eval(Optional::None(Type::Tensor(DType::F32)), None).unwrap();
        let has = eval(Optional::HasElement, Some(o.clone())).unwrap();
        assert_eq!(has, Tensor::scalar(Bool(0)).into());
        assert_eq!(eval(Optional::HasElement, None).unwrap(), Tensor::scalar(Bool(0)).into());
        assert!(eval(Optional::GetElement, Some(o)).is_err());
    }
}
