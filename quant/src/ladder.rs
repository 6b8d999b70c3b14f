//! The ladder: milder forms of a layer that is too sensitive, before it stays float.
//!
//! One scale for each channel, ranges with the least squared error or whole, outliers moved into
//! the weight (SmoothQuant), activations of 16 bits; for blocks smaller ones and more bits.

use crate::forms::{Choice, Form};
use crate::layers::{Layer, Role};
use crate::observe::Method;
use crate::plan::Job;
use crate::scheme::Scheme;
use crate::weights::Fit;

/// A form to try, and what it is called.
#[derive(Clone, Debug)]
pub struct Rung {
    /// Words for the report.
    pub name: String,
    /// The form.
    pub choice: Choice,
}

/// The base form and the milder ones, in the order in which they are tried; none for a layer that
/// is to stay float.
pub fn ladder(job: &Job, layer: &Layer, base: &Choice) -> Vec<Rung> {
    if base.form == Form::Float {
        return Vec::new();
    }
    let mut rungs = vec![Rung { name: base.form.name(), choice: base.clone() }];
    let mut add = |name: &str, choice: Choice| {
        if rungs.iter().all(|r| r.choice.form != choice.form || r.choice.smooth != choice.smooth) {
            rungs.push(Rung { name: format!("{name} ({})", choice.form.name()), choice });
        }
    };
    let milder = |fit: Fit| {
        let mut weight = job.config.weight;
        weight.per_channel = layer.channels.is_some();
        weight.fit = fit;
        if layer.role == Role::Table {
            weight.scheme = Scheme::INT8;
        }
        weight
    };
    match &base.form {
        Form::Static { .. } => {
            let forms = [
                ("a scale for each channel", job.config.method, Fit::Ends, Scheme::UINT8),
                ("mse ranges", Method::Mse, Fit::Mse, Scheme::UINT8),
                ("whole ranges", Method::MinMax, Fit::Ends, Scheme::UINT8),
            ];
            for (name, method, fit, scheme) in forms {
                if let Some(form) = static_form(job, layer, scheme, method, milder(fit)) {
                    add(name, form.into());
                }
            }
            if let Some(choice) = job.smoothed(layer, 0.5, milder(Fit::Ends)) {
                add("outliers moved into the weight", choice);
            }
            let wide = static_form(job, layer, Scheme::UINT16, Method::MinMax, milder(Fit::Ends));
            if let Some(form) = wide {
                add("activations of 16 bits", form.into());
            }
        }
        Form::Dynamic { .. } => {
            let dynamic = |fit| Form::Dynamic { weight: milder(fit), rows: true };
            add("a scale for each channel", dynamic(Fit::Ends).into());
            add("mse ranges", dynamic(Fit::Mse).into());
            if let Some(mut choice) = job.smoothed(layer, 0.5, milder(Fit::Ends)) {
                choice.form = dynamic(Fit::Ends);
                add("outliers moved into the weight", choice);
            }
            if layer.role != Role::Table {
                add("the weight alone", Form::Stored(milder(Fit::Ends)).into());
            }
        }
        Form::Stored(_) => {
            add("a scale for each channel", Form::Stored(milder(Fit::Ends)).into());
            add("mse ranges", Form::Stored(milder(Fit::Mse)).into());
        }
        Form::Blocks(b) => {
            for size in [32, 16] {
                if size < b.size {
                    let form = Form::Blocks(crate::blocks::BlockScheme { size, ..*b });
                    add("smaller blocks", form.into());
                }
            }
            if b.bits < 8 {
                let form = Form::Blocks(crate::blocks::BlockScheme { bits: 8, ..*b });
                add("codes of 8 bits", form.into());
            }
        }
        Form::Float => {}
    }
    rungs
}

fn static_form(
    job: &Job,
    layer: &Layer,
    scheme: Scheme,
    method: Method,
    new: crate::weights::WeightScheme,
) -> Option<Form> {
    let form = job.static_form(layer, scheme, method)?;
    let Form::Static { input, output, .. } = form else { return None };
    Some(Form::Static { weight: new, input, output })
}
