//! What became of each layer, and why: as JSON, and as a page of HTML that stands alone.

use serde_json::{Value as Json, json};

use crate::plan::{Decision, Job};

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// What was asked for, as key and value.
    pub config: Vec<(String, String)>,
    /// Layers and what else computes.
    pub rows: Vec<Row>,
    /// Bytes of the model's file before and after.
    pub bytes: Option<(usize, usize)>,
    /// What was measured of accuracy, step by step.
    pub accuracy: Vec<String>,
    /// The result of the search, if there was one.
    pub search: Option<Json>,
}

/// What became of a layer.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// ONNX's operator.
    pub op: String,
    /// What it became; `float` if it stayed.
    pub form: String,
    /// Why.
    pub why: String,
    /// Numbers in its weight.
    pub weights: usize,
    /// Multiply–accumulate steps, symbolic sizes taken as 1.
    pub macs: u64,
    /// Whether it computes in integers.
    pub integer: bool,
}

impl Report {
    /// A report of these decisions.
    pub fn new(model: &str, job: &Job, decisions: &[Decision]) -> Report {
        let layer = |(layer, decision): (&crate::Layer, &Decision)| Row {
            name: layer.name.clone(),
            op: layer.op.clone(),
            form: decision.choice.form.name(),
            why: decision.why.clone(),
            weights: layer.weights(),
            macs: layer.macs,
            integer: decision.choice.form.is_integer(),
        };
        let left = job.left.iter().map(|left| Row {
            name: left.name.clone(),
            op: left.op.clone(),
            form: if left.why.contains("already") { "as it was" } else { "float" }.into(),
            why: left.why.clone(),
            weights: 0,
            macs: left.macs,
            integer: left.why.contains("already"),
        });
        let config = job.config.describe();
        Report {
            model: model.into(),
            config: config.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
            rows: job.layers.iter().zip(decisions).map(layer).chain(left).collect(),
            ..Report::default()
        }
    }

    /// Says that the model is in half precision, but for these nodes.
    pub fn halved(&mut self, kept: &[(String, String)]) {
        for row in &mut self.rows {
            let stays = kept.iter().find(|(name, _)| *name == row.name);
            row.form = if stays.is_some() { "float" } else { "float16" }.into();
            row.why = stays.map_or("half precision".into(), |(_, why)| why.clone());
            row.integer = false;
        }
        let known: Vec<String> = self.rows.iter().map(|r| r.name.clone()).collect();
        for (name, why) in kept.iter().filter(|(n, _)| !known.contains(n)) {
            let (name, why, op) = (name.clone(), why.clone(), String::new());
            let form = "float".into();
            self.rows.push(Row { name, op, form, why, weights: 0, macs: 0, integer: false });
        }
    }

    /// The share of multiply–accumulate steps that are in integers.
    pub fn integer_share(&self) -> f64 {
        let all: u64 = self.rows.iter().map(|r| r.macs).sum();
        let integer: u64 = self.rows.iter().filter(|r| r.integer).map(|r| r.macs).sum();
        if all == 0 { 0.0 } else { integer as f64 / all as f64 }
    }

    /// As one object.
    pub fn to_json(&self) -> Json {
        let row = |r: &Row| {
            json!({"name": r.name, "op": r.op, "form": r.form, "why": r.why,
                   "weights": r.weights, "macs": r.macs, "integer": r.integer})
        };
        let config: serde_json::Map<String, Json> =
            self.config.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        json!({
            "model": self.model, "config": config,
            "bytes_before": self.bytes.map(|b| b.0), "bytes_after": self.bytes.map(|b| b.1),
            "integer_macs_share": self.integer_share(),
            "layers": self.rows.iter().map(row).collect::<Vec<_>>(),
            "accuracy": self.accuracy, "search": self.search,
        })
    }

    /// As a page.
    pub fn to_html(&self) -> String {
        let mut page = format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>{0}, quantized</title><style>\
             body{{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;padding:0 1em}}\
             table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;padding:.2em .6em;\
             border-bottom:1px solid #ddd;vertical-align:top}}td.n{{text-align:right}}\
             tr.float td{{background:#fff4e0}}</style><h1>{0}</h1>",
            escape(&self.model)
        );
        if let Some((before, after)) = self.bytes {
            page.push_str(&format!(
                "<p>{before} bytes became {after}; {:.1} % of multiply–accumulate steps are in \
                 integers.</p>",
                100.0 * self.integer_share()
            ));
        }
        for line in &self.accuracy {
            page.push_str(&format!("<p>{}</p>", escape(line)));
        }
        page.push_str("<h2>What was asked for</h2><table>");
        for (key, value) in &self.config {
            page.push_str(&format!("<tr><td>{}<td>{}", escape(key), escape(value)));
        }
        page.push_str(
            "</table><h2>Layers</h2><table><tr><th>layer<th>operator<th>became<th>why\
             <th>weights<th>MACs",
        );
        for r in &self.rows {
            let class = if r.form == "float" { "float" } else { "q" };
            page.push_str(&format!(
                "<tr class={class}><td>{}<td>{}<td>{}<td>{}<td class=n>{}<td class=n>{}",
                escape(&r.name),
                escape(&r.op),
                escape(&r.form),
                escape(&r.why),
                r.weights,
                r.macs
            ));
        }
        page.push_str("</table>");
        if let Some(search) = &self.search {
            let text = serde_json::to_string_pretty(search).unwrap_or_default();
            page.push_str(&format!("<h2>Search</h2><pre>{}</pre>", escape(&text)));
        }
        page.push_str("</html>\n");
        page
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Job};

    #[test]
    fn names_cannot_break_the_page() {
        let job = Job::new(crate::tests::digits(), Config::default()).unwrap();
        let report = Report::new("<script>", &job, &job.decide());
        assert!(!report.to_html().contains("<script>"));
        assert_eq!(report.to_json()["layers"].as_array().unwrap().len(), 3);
    }
}
