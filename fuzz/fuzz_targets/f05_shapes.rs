//! What was inferred of every value of a generated model is what running makes of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinfer::{Fact, Model, Session, Tensor};
use rinfer_tests::hostile::{generate, mutate};

fuzz_target!(|data: &[u8]| {
    let file = generate::model(data, 16);
    let Ok(model) = Model::from_bytes(file.clone()) else { return };
    let made = model.graph().nodes().flat_map(|(_, node)| node.outputs.iter().copied());
    let named: Vec<_> =
        made.filter_map(|v| Some((model.graph().name(v)?.to_string(), v))).collect();
    let builder = Session::builder().optimize(false).limits(mutate::limits());
    let names = named.iter().map(|(name, _)| name.clone());
    let Ok(session) = builder.outputs(names).load_bytes(file) else { return };
    let filled = |port: &rinfer::Port| {
        let sizes: Vec<usize> = port.shape.iter().flatten().filter_map(|d| d.size()).collect();
        let n: usize = sizes.iter().product();
        (port.name.clone(), Tensor::from_slice(&sizes, &vec![0.5f32; n]))
    };
    let inputs: Vec<_> = session.inputs().iter().map(filled).collect();
    let Ok(values) = session.run(inputs) else { return };
    for ((name, v), value) in named.iter().zip(&values) {
        let (said, found) = (model.graph().fact(*v), Fact::of_value(value).forget());
        assert!(said.compatible(&found), "{name}: {said} was inferred, {found} was made");
    }
});
