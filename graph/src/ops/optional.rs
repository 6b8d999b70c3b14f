//! Optionals: Optional, OptionalGetElement, OptionalHasElement.
use super::{Inputs, one};
use crate::onnx::{NodeCx, Outputs};
use crate::{Bool, DType, Fact, Facts, Reason, Tensor, Type, invalid};

/// What is done with a value that may be absent.
#[derive(Clone, Debug, PartialEq)]
pub enum Optional {
    /// x → an optional that holds x.
    Some,
    /// → an empty optional that could hold this type.
    None(Type),
    /// o → what it holds; `Err` when it runs if that is nothing. What is no optional is itself.
    GetElement,
    /// o → whether it holds something, a bool scalar. An omitted input does not, what is no
    /// optional does.
    HasElement,
}

impl Optional {
    pub(super) fn infer(&self, inputs: &Inputs<'_>) -> Result<Facts, Reason> {
        one(match self {
            Optional::Some => Fact::of(Type::Optional(Box::new(inputs.get(0)?.ty.clone()))),
            Optional::None(ty) => Fact::of(Type::Optional(Box::new(ty.clone()))),
            Optional::GetElement => {
                let x = inputs.get(0)?;
                match &x.ty {
                    Type::Optional(of) => Fact::of((**of).clone()),
                    _ => x.clone(),
                }
            }
            Optional::HasElement => match inputs.opt(0).map(|x| &x.ty) {
                Some(Type::Optional(_)) => Fact::sized(DType::Bool, &[]),
                given => Fact::constant(Tensor::scalar(Bool::from(given.is_some()))),
            },
        })
    }
}

pub(super) fn import(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(0, 1)?;
    let ty = cx.type_attr("type")?;
    match (cx.opt_input(0), ty) {
        (Some(_), _) => cx.emit(Optional::Some),
        (None, Some(ty)) => cx.emit(Optional::None(ty)),
        (None, None) => Err(invalid!("neither an input nor the attribute type")),
    }
}

pub(super) fn import_get(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(1, 1)?;
    cx.emit(Optional::GetElement)
}

pub(super) fn import_has(cx: &mut NodeCx<'_>) -> Result<Outputs, Reason> {
    cx.check_inputs(0, 1)?;
    cx.emit(Optional::HasElement)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;

    fn infer(op: Optional, facts: &[&Fact]) -> Result<Fact, Reason> {
        let facts: Vec<Option<&Fact>> = facts.iter().map(|f| Some(*f)).collect();
        Op::from(op).infer(&Inputs::new(&facts, 1)).map(|mut f| f.remove(0))
    }

    #[test]
    fn the_element_of_a_tensor_is_the_tensor() {
        let x = Fact::sized(DType::F32, &[2]);
        assert_eq!(infer(Optional::GetElement, &[&x]).unwrap(), x);
        let o = infer(Optional::Some, &[&x]).unwrap();
        assert_eq!(infer(Optional::GetElement, &[&o]).unwrap(), Fact::unranked(DType::F32));
    }

    #[test]
    fn whether_an_omitted_input_or_a_tensor_is_there_needs_no_run() {
        let known = |facts: &[&Fact]| {
            let fact = infer(Optional::HasElement, facts).unwrap();
            fact.tensor().map(|t| t.as_slice::<Bool>()[0].get())
        };
        assert_eq!(known(&[]), Some(false));
        assert_eq!(known(&[&Fact::sized(DType::F32, &[2])]), Some(true));
        let o = Fact::of(Type::Optional(Box::new(Type::Tensor(DType::F32))));
        assert_eq!(known(&[&o]), None);
    }
}
