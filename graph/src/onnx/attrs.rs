//! A node's attributes by name, each read once with the type its operator expects.

use std::cell::Cell;
use std::collections::HashMap;

use rinfer_onnx_proto as pb;
use rinfer_onnx_proto::attribute_proto::AttributeType as Ty;

use super::external::ExternalData;
use super::tensors;
use crate::{Reason, Value, invalid};

/// The attributes of one node, references to a function's attributes resolved.
pub(super) struct Attrs<'a> {
    /// Each with whether somebody asked for it: one that no operator reads must not pass unseen.
    by_name: HashMap<&'a str, (&'a pb::AttributeProto, Cell<bool>)>,
}

impl<'a> Attrs<'a> {
    /// `outer` are the attributes that the calling node gave to the function around this node.
    pub fn new(
        attributes: &'a [pb::AttributeProto],
        outer: Option<&HashMap<&'a str, &'a pb::AttributeProto>>,
    ) -> Result<Attrs<'a>, Reason> {
        let mut by_name = HashMap::with_capacity(attributes.len());
        for a in attributes {
            let meant = match (a.ref_attr_name(), outer) {
                ("", _) => a,
                // A reference to an attribute that the caller left out leaves it out here too.
                (name, Some(outer)) => match outer.get(name) {
                    Some(given) => given,
                    None => continue,
                },
                (name, None) => {
                    return Err(invalid!(
                        "attribute {} refers to {name:?} outside a function",
                        a.name()
                    ));
                }
            };
            if by_name.insert(a.name(), (meant, Cell::new(false))).is_some() {
                return Err(invalid!("attribute {} stands twice", a.name()));
            }
        }
        Ok(Attrs { by_name })
    }

    /// All of them, as what a function's body may refer to.
    pub fn all(&self) -> HashMap<&'a str, &'a pb::AttributeProto> {
        self.by_name.iter().map(|(&name, (a, _))| (name, *a)).collect()
    }

    /// The names that nobody asked for, sorted.
    pub fn unread(&self) -> Vec<&'a str> {
        let unread = self.by_name.iter().filter(|(_, (_, read))| !read.get());
        let mut names: Vec<&str> = unread.map(|(&name, _)| name).collect();
        names.sort_unstable();
        names
    }

    pub fn find(&self, name: &str) -> Option<&'a pb::AttributeProto> {
        let (a, read) = self.by_name.get(name)?;
        read.set(true);
        Some(a)
    }

    /// The attribute, if it is there; `Err` if it has another type. Old files leave the type out.
    fn typed(&self, name: &str, ty: Ty) -> Result<Option<&'a pb::AttributeProto>, Reason> {
        match self.find(name) {
            Some(a) if a.r#type() != ty && a.r#type() != Ty::Undefined => Err(invalid!(
                "attribute {name} is {}, not {}",
                a.r#type().as_str_name(),
                ty.as_str_name()
            )),
            found => Ok(found),
        }
    }

    pub fn int(&self, name: &str) -> Result<Option<i64>, Reason> {
        Ok(self.typed(name, Ty::Int)?.map(|a| a.i()))
    }

    pub fn float(&self, name: &str) -> Result<Option<f32>, Reason> {
        Ok(self.typed(name, Ty::Float)?.map(|a| a.f()))
    }

    pub fn string(&self, name: &str) -> Result<Option<&'a str>, Reason> {
        let text = |a: &'a pb::AttributeProto| utf8(name, a.s());
        self.typed(name, Ty::String)?.map(text).transpose()
    }

    pub fn bytes(&self, name: &str) -> Result<Option<&'a [u8]>, Reason> {
        Ok(self.typed(name, Ty::String)?.map(|a| a.s()))
    }

    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, Reason> {
        Ok(self.typed(name, Ty::Ints)?.map(|a| a.ints.clone()))
    }

    pub fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, Reason> {
        Ok(self.typed(name, Ty::Floats)?.map(|a| a.floats.clone()))
    }

    pub fn strings(&self, name: &str) -> Result<Option<Vec<String>>, Reason> {
        let Some(a) = self.typed(name, Ty::Strings)? else { return Ok(None) };
        a.strings
            .iter()
            .map(|s| utf8(name, s).map(str::to_string))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    pub fn tensor(&self, name: &str, source: &dyn ExternalData) -> Result<Option<Value>, Reason> {
        let Some(a) = self.typed(name, Ty::Tensor)? else { return Ok(None) };
        let t = a.t.as_ref().ok_or_else(|| invalid!("attribute {name} holds no tensor"))?;
        tensors::tensor(t, source).map(Some)
    }

    pub fn sparse(
        &self,
        name: &str,
        source: &dyn ExternalData,
        take: &dyn Fn(usize) -> Result<(), Reason>,
    ) -> Result<Option<Value>, Reason> {
        let Some(a) = self.typed(name, Ty::SparseTensor)? else { return Ok(None) };
        let t =
            a.sparse_tensor.as_ref().ok_or_else(|| invalid!("attribute {name} holds no tensor"))?;
        tensors::sparse(t, source, take).map(|t| Some(Value::Tensor(t)))
    }

    pub fn graph(&self, name: &str) -> Result<Option<&'a pb::GraphProto>, Reason> {
        let Some(a) = self.typed(name, Ty::Graph)? else { return Ok(None) };
        a.g.as_ref().ok_or_else(|| invalid!("attribute {name} holds no graph")).map(Some)
    }

    pub fn type_proto(&self, name: &str) -> Result<Option<&'a pb::TypeProto>, Reason> {
        Ok(self.typed(name, Ty::TypeProto)?.and_then(|a| a.tp.as_ref()))
    }
}

fn utf8<'a>(name: &str, bytes: &'a [u8]) -> Result<&'a str, Reason> {
    std::str::from_utf8(bytes).map_err(|_| invalid!("attribute {name} is not UTF-8"))
}
