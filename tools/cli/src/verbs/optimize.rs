//! `rinfer optimize`: the optimized graph as an ONNX file, checked against the original.

use rinfer::{Model, Session};
use serde_json::json;

use crate::args::{OptimizeArgs, PrintArgs};
use crate::compare::{Tolerance, compare};
use crate::context;
use crate::failure::{Code, Failure, OrFail, Result};
use crate::formats;
use crate::inputs;

/// Optimizes a model and writes it.
pub fn optimize(args: &OptimizeArgs, print: &PrintArgs) -> Result<()> {
    if args.output.exists() && !args.overwrite {
        let text = format!("{} exists; --overwrite replaces it", args.output.display());
        return Err(Failure::usage(text));
    }
    let dims = context::parse_dims(&args.input.dims)?;
    context::check_dims(&args.model, &args.limits, &dims)?;
    let mut model = context::open(&args.model, &args.limits, &dims)?;
    let before = std::fs::metadata(&args.model).map_or(0, |m| m.len()) as usize;
    let nodes_before = model.graph().order().len();
    model.optimize().map_err(|e| Failure::load(&args.model, e))?;
    let nodes_after = model.graph().order().len();
    let bytes = formats::write_model(&model, &args.model, &args.output, args.overwrite)?;
    if !args.no_check {
        check(args, &dims, print)?;
    }
    if print.json {
        println!(
            "{}",
            json!({"model": args.model.display().to_string(), "output": args.output.display().to_string(),
                   "bytes_before": before, "bytes_after": bytes,
                   "nodes_before": nodes_before, "nodes_after": nodes_after,
                   "checked": !args.no_check})
        );
    } else {
        println!("bytes  {before} → {bytes}");
        println!("nodes  {nodes_before} → {nodes_after}");
    }
    Ok(())
}

/// Runs the original, not optimized, and what was written on the same inputs; removes what was
/// written if they differ.
fn check(args: &OptimizeArgs, dims: &[(String, usize)], print: &PrintArgs) -> Result<()> {
    let checked = compared(args, dims, print);
    if checked.is_err() {
        let name = args.output.file_name().unwrap_or_default().to_string_lossy();
        let _ = std::fs::remove_file(&args.output);
        let _ = std::fs::remove_file(args.output.with_file_name(format!("{name}.data")));
    }
    checked
}

fn compared(args: &OptimizeArgs, dims: &[(String, usize)], print: &PrintArgs) -> Result<()> {
    let model = context::open(&args.model, &args.limits, dims)?;
    let given = inputs::gather(&args.model, &model, &args.input, print)?;
    let options = context::run_options(None)?;
    let run = |model: Model, optimize: bool| {
        let session = Session::builder().optimize(optimize).build(model);
        let session = session.map_err(|e| Failure::load(&args.model, e))?;
        session.run_with(given.clone(), &options).map_err(|e| Failure::run(&args.model, e))
    };
    let expected = run(model, false)?;
    let written = Model::open(&args.output).or_fail(Code::Model, "the optimized model")?;
    let names: Vec<String> = written.outputs().iter().map(|p| p.name.clone()).collect();
    let found = run(written, false)?;
    for ((name, found), expected) in names.iter().zip(&found).zip(&expected) {
        let tolerance = Tolerance { rtol: 1e-3, atol: 1e-4 };
        compare(found, expected, tolerance)
            .map_err(|e| Failure::new(Code::Differs, format!("output {name:?} differs: {e}")))?;
    }
    Ok(())
}
