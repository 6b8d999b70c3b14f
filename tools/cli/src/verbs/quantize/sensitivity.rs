//! `rinfer quantize sensitivity`: layers by what each loses alone, the worst first.

use rinfer_quant::search::sensitivity as rank;
use rinfer_quant::{Job, Layer};
use serde_json::json;

use super::{calibrate, config, failed};
use crate::args::PrintArgs;
use crate::context::{self, say};
use crate::failure::{Failure, Result};
use crate::quantize_args::SensitivityArgs;
use crate::samples::Data;
use crate::table::Table;

/// Quantizes each layer alone and measures what the model's outputs lose.
pub fn sensitivity(args: &SensitivityArgs, print: &PrintArgs) -> Result<()> {
    let path = &args.model;
    let config = config::config(&args.how, &args.data)?;
    let model = context::open(path, &args.how.limits, &[])?;
    let Some(data) = Data::open(&model, &args.data, print)? else {
        return Err(Failure::usage("which samples? --calib"));
    };
    let mut job = Job::new(model, config).map_err(|e| failed(path, e))?;
    calibrate::ranges(path, &mut job, &args.how, &args.data, Some(&data), print)?;
    let told = calibrate::told(print);
    let running = calibrate::running(&args.how, &told)?;
    let mut decisions = job.decide();
    job.refine(&mut decisions, Some(&data), &running).map_err(|e| failed(path, e))?;
    let (ranked, used) = rank(&job, &decisions, &data, &running).map_err(|e| failed(path, e))?;
    let mut table = Table::new(&["layer", "op", "form", "SQNR", "damage", "MACs", "bytes saved"]);
    let mut rows = Vec::new();
    for r in &ranked {
        let layer = &job.layers[r.layer];
        let form = decisions[r.layer].choice.form.name();
        let sqnr = -10.0 * r.damage.log10();
        let saved = saved(layer, &form);
        table.row([
            layer.name.clone(),
            layer.op.clone(),
            form.clone(),
            format!("{sqnr:.1} dB"),
            format!("{:.3e}", r.damage),
            layer.macs.to_string(),
            saved.to_string(),
        ]);
        rows.push(json!({"layer": layer.name, "op": layer.op, "form": form, "sqnr": sqnr,
                         "damage": r.damage, "macs": layer.macs, "bytes_saved": saved}));
    }
    match print.json {
        true => println!("{}", json!({"layers": rows, "samples": used})),
        false => {
            print!("{table}");
            say(
                print,
                format!("ranked by {used} samples: the order is settled, or there are no more"),
            );
        }
    }
    Ok(())
}

/// Bytes that a layer's weight takes less.
fn saved(layer: &Layer, form: &str) -> usize {
    let bits = if form.starts_with("int4") { 4 } else { 8 };
    layer.weights() * 4 - layer.weights() * bits / 8
}
