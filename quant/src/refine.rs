//! What is worked out for layers once their forms are decided: smoothing, better codes in blocks,
//! biases that make up for mean errors.

use std::collections::BTreeMap;
use std::sync::Arc;

use rinfer::graph::Graph;
use rinfer::{Reason, Tensor};

use crate::blocks::{BlockScheme, Blocks, columns};
use crate::calibrate::{Place, Running, Samples};
use crate::config::{Rounding, Smooth};
use crate::error::{Error, Result};
use crate::forms::{Choice, Form};
use crate::gptq::{Engine, factor, gptq};
use crate::grams::grams;
use crate::layers::{Layer, Role};
use crate::plan::{Decision, Job};
use crate::probe::Probe;
use crate::rebuild::graphs;
use crate::rounding::{clipped, hqq};
use crate::scheme::usable;
use crate::smooth::Peaks;

/// Bytes of products of activations that are held at once.
const GRAMS: usize = 600 << 20;

impl Job {
    /// Applies what the configuration asks for beyond the form: smoothing, rounding, biases.
    ///
    /// # Errors
    /// Samples are missing, cannot be read or run.
    pub fn refine(
        &self,
        decisions: &mut [Decision],
        samples: Option<&dyn Samples>,
        running: &Running<'_>,
    ) -> Result<()> {
        let missing = || Error::Config("this needs samples: --calib".into());
        if let Some(smooth) = self.config.smooth {
            self.smooth(decisions, smooth);
        }
        match self.config.rounding {
            Rounding::Nearest => {}
            Rounding::Hqq => self.round_all(decisions, &|w, k, n, how, _| {
                Blocks::chosen(w, k, n, how, &|b, _| hqq(b, how))
            })?,
            Rounding::Gptq => self.round_gptq(decisions, samples.ok_or_else(missing)?, running)?,
            Rounding::Awq => self.round_awq(decisions)?,
        }
        if self.config.correct_bias {
            self.correct(decisions, samples.ok_or_else(missing)?, running)?;
        }
        Ok(())
    }

    fn smooth(&self, decisions: &mut [Decision], smooth: Smooth) {
        for (layer, decision) in self.layers.iter().zip(decisions) {
            let weight = match &decision.choice.form {
                Form::Static { weight, .. } | Form::Dynamic { weight, .. } => *weight,
                _ => continue,
            };
            let alpha = match smooth {
                Smooth::Alpha(alpha) => Some(alpha),
                Smooth::Auto => self.best_alpha(layer),
            };
            let Some(alpha) = alpha else { continue };
            let Some(mut smoothed) = self.smoothed(layer, alpha, weight) else { continue };
            if let Form::Dynamic { .. } = decision.choice.form {
                smoothed.form = decision.choice.form.clone();
            }
            decision.choice = smoothed;
            decision.why = format!("{}; outliers moved into the weight, α {alpha}", decision.why);
        }
    }

    /// The share of outliers with the least noise, by what rounding does on average: a step's
    /// square over 12 in each number. `None` if leaving them is best.
    fn best_alpha(&self, layer: &Layer) -> Option<f32> {
        let graphs = graphs(self.model.graph());
        let t = graphs.get(&layer.site.graph)?.tensor(layer.weight)?;
        let peaks = self.peaks.get(&(layer.site.graph, layer.data))?;
        let (k, n, w) = columns(t, layer.channels == Some(0));
        let means = peaks.means();
        let noise = |by: &[f32], lo: f32, hi: f32| {
            let step = f64::from(usable((hi - lo) / 255.0)).powi(2);
            let (mut weights, mut steps) = (0f64, 0f64);
            for column in w.chunks(k) {
                let scaled = column.iter().zip(by).map(|(w, s)| w * s);
                let most = scaled.clone().fold(0f32, |m, w| m.max(w.abs()));
                weights += scaled.map(|w| f64::from(w) * f64::from(w)).sum::<f64>();
                steps += f64::from(most / 127.0).powi(2);
            }
            // A bell's mean square is π/2 times its squared mean size.
            let power = |(m, s): (&f64, &f32)| (m / f64::from(*s)).powi(2) * 1.57;
            step * weights + steps * means.iter().zip(by).map(power).sum::<f64>()
        };
        if means.len() != k || n == 0 {
            return None;
        }
        let lo = peaks.lo.iter().copied().fold(0f32, f32::min);
        let hi = peaks.hi.iter().copied().fold(0f32, f32::max);
        let mut best = (noise(&vec![1.0; k], lo, hi), None);
        for alpha in [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9] {
            let (by, lo, hi) = self.smoothing(layer, alpha)?;
            let found = noise(&by, lo, hi);
            if found < 0.98 * best.0 {
                best = (found, Some(alpha));
            }
        }
        best.1
    }

    /// Puts blocks that `round` chooses into every layer that is to have blocks.
    fn round_all(
        &self,
        decisions: &mut [Decision],
        round: &dyn Fn(
            &[f32],
            usize,
            usize,
            BlockScheme,
            &Layer,
        ) -> std::result::Result<Blocks, Reason>,
    ) -> Result<()> {
        let graphs = graphs(self.model.graph());
        for (layer, decision) in self.layers.iter().zip(decisions) {
            let Form::Blocks(how) = decision.choice.form else { continue };
            let failed = |reason| Error::Layer { layer: layer.name.clone(), reason };
            let (k, n, w) = self.matrix(&graphs, layer, &decision.choice)?;
            decision.choice.blocks = Some(round(&w, k, n, how, layer).map_err(failed)?);
        }
        Ok(())
    }

    /// A product's weight, its columns one after the other.
    fn matrix(
        &self,
        graphs: &std::collections::HashMap<usize, &Graph>,
        layer: &Layer,
        choice: &Choice,
    ) -> Result<(usize, usize, Vec<f32>)> {
        let t: Option<&Tensor> = graphs.get(&layer.site.graph).and_then(|g| g.tensor(layer.weight));
        let t = t.ok_or_else(|| Error::Config(format!("{}: no weight", layer.name)))?;
        let (k, n, mut w) = columns(t, layer.channels == Some(0));
        if let Some(by) = &choice.smooth {
            w.iter_mut().enumerate().for_each(|(i, w)| *w *= by[i % k]);
        }
        Ok((k, n, w))
    }

    fn round_gptq(
        &self,
        decisions: &mut [Decision],
        samples: &dyn Samples,
        running: &Running<'_>,
    ) -> Result<()> {
        let mut places = BTreeMap::<Place, usize>::new();
        for (layer, decision) in self.layers.iter().zip(&*decisions) {
            if matches!(decision.choice.form, Form::Blocks(_)) {
                places.insert((layer.site.graph, layer.data), layer.k_n().0);
            }
        }
        let mut todo: Vec<(Place, usize)> = places.into_iter().collect();
        while !todo.is_empty() {
            let mut bytes = 0;
            let mut fits = |&(_, k): &(Place, usize)| {
                bytes += k * k * 4;
                bytes <= GRAMS
            };
            let n = todo.iter().take_while(|p| fits(p)).count().max(1);
            let now: BTreeMap<Place, usize> = todo.drain(..n).collect();
            let sums = grams(&self.model, &now, samples, running)?;
            self.round_by(&sums, decisions, running)?;
        }
        Ok(())
    }

    /// GPTQ of the layers that read values whose xᵀx is known: factored once for each value.
    fn round_by(
        &self,
        sums: &BTreeMap<Place, Vec<f32>>,
        decisions: &mut [Decision],
        running: &Running<'_>,
    ) -> Result<()> {
        let graphs = graphs(self.model.graph());
        let engine = Engine::new(running.threads).map_err(|r| Error::Config(r.to_string()))?;
        for (&place, h) in sums {
            let mut factored: Option<Vec<f32>> = None;
            for (layer, decision) in self.layers.iter().zip(&mut *decisions) {
                let Form::Blocks(how) = decision.choice.form else { continue };
                if (layer.site.graph, layer.data) != place {
                    continue;
                }
                let failed = |reason| Error::Layer { layer: layer.name.clone(), reason };
                let (k, n, w) = self.matrix(&graphs, layer, &decision.choice)?;
                if h.len() != k * k {
                    decision.why = format!("{}; no sample reached it: nearest codes", decision.why);
                    continue;
                }
                let u = match factored.take() {
                    Some(u) => u,
                    None => factor(h, k, &engine).map_err(failed)?,
                };
                decision.choice.blocks = Some(gptq(&w, (k, n), &u, how, &engine).map_err(failed)?);
                factored = Some(u);
                decision.why = format!("{}, GPTQ", decision.why);
                (running.progress)("GPTQ", layer.site.node.index(), 0);
            }
        }
        Ok(())
    }

    /// Rows that meet large activations are scaled up, by the power of the mean size that loses
    /// least; then each block's range is clipped where that loses less.
    fn round_awq(&self, decisions: &mut [Decision]) -> Result<()> {
        let graphs = graphs(self.model.graph());
        let mut chosen = BTreeMap::<Place, Arc<Vec<f32>>>::new();
        for (layer, decision) in self.layers.iter().zip(&*decisions) {
            let (Form::Blocks(how), place) =
                (&decision.choice.form, (layer.site.graph, layer.data))
            else {
                continue;
            };
            let Some(peaks) = self.peaks.get(&place).filter(|p| p.rows > 0) else {
                return Err(Error::Config("AWQ needs samples: --calib".into()));
            };
            if chosen.contains_key(&place) {
                continue;
            }
            let means = peaks.means();
            let same = |l: &&Layer| (l.site.graph, l.data) == place && l.role == Role::Product;
            let mut group = Vec::new();
            for l in self.layers.iter().filter(same).filter(|l| l.shape.len() == 2) {
                group.push(self.matrix(&graphs, l, &decision.choice)?);
            }
            chosen.insert(place, Arc::new(awq_factors(&group, &means, peaks, *how)));
        }
        for (layer, decision) in self.layers.iter().zip(&mut *decisions) {
            let Form::Blocks(how) = decision.choice.form else { continue };
            let place = (layer.site.graph, layer.data);
            let Some(by) = chosen.get(&place) else { continue };
            if by.iter().any(|&s| s != 1.0) {
                decision.choice.smooth = Some(by.clone());
            }
            let (k, n, w) = self.matrix(&graphs, layer, &decision.choice)?;
            let failed = |reason| Error::Layer { layer: layer.name.clone(), reason };
            let peaks = &self.peaks[&place];
            let squares: Vec<f32> =
                by.iter().enumerate().map(|(k, s)| peaks.square(k) / (s * s) + 1e-30).collect();
            let clip = |b: &[f32], row: usize| {
                clipped(b, how, &squares[row..], |d| peaks.noise(row, &unscaled(d, &by[row..])))
            };
            let blocks = Blocks::chosen(&w, k, n, how, &clip).map_err(failed)?;
            decision.choice.blocks = Some(blocks);
            decision.why = format!("{}, AWQ", decision.why);
        }
        Ok(())
    }

    /// Adds to each bias what the layer's form lacks on average, on the float model's inputs.
    fn correct(
        &self,
        decisions: &mut [Decision],
        samples: &dyn Samples,
        running: &Running<'_>,
    ) -> Result<()> {
        let probe = Probe::new(self, running)?;
        for (i, decision) in decisions.iter().enumerate() {
            if decision.choice.form != Form::Float {
                let form = probe.add(i, &decision.choice);
                probe.set(i, form);
            }
        }
        probe.compare();
        for i in 0..samples.len() {
            probe.run(samples.get(i)?, &running.options)?;
            (running.progress)("mean errors", i + 1, samples.len());
        }
        for (i, (layer, decision)) in self.layers.iter().zip(decisions).enumerate() {
            let form = match (&decision.choice.form, layer.role) {
                (Form::Float, _) | (_, Role::Table | Role::Other) => continue,
                // A weight that is stored alone has no place for another bias.
                (Form::Stored(_), _) => continue,
                (form, _) => form.clone(),
            };
            let Some(meter) = probe.compared(i).filter(|m| m.count > 0) else { continue };
            let n = meter.count as f64;
            // What a Relu cuts off is not the bias's to make up for: half of it, at most.
            let share = if layer.activation.is_some() { 0.5 } else { 1.0 };
            let shift: Vec<f32> = meter.lacks.iter().map(|l| (l / n * share) as f32).collect();
            decision.choice.shift = Some(shift);
            decision.why = format!("{}; bias corrected", decision.why);
            decision.choice.form = form;
        }
        Ok(())
    }
}

/// Errors of weights that were scaled, as errors of the weights.
fn unscaled(d: &[f32], by: &[f32]) -> Vec<f32> {
    d.iter().zip(by).map(|(d, s)| d / s).collect()
}

/// The factors of a group of weights that read one value: |x|^α, of those α the one with which
/// rounding loses least of the products.
fn awq_factors(
    group: &[(usize, usize, Vec<f32>)],
    means: &[f64],
    peaks: &Peaks,
    how: BlockScheme,
) -> Vec<f32> {
    let k = means.len();
    let lost = |by: &[f32]| -> f64 {
        let mut sum = 0f64;
        for (k, n, w) in group {
            // Some columns say enough.
            let step = n.div_ceil(64).max(1);
            for column in w.chunks(*k).step_by(step) {
                let scaled: Vec<f32> = column.iter().zip(by).map(|(w, s)| w * s).collect();
                for (b, block) in scaled.chunks(how.size).enumerate() {
                    let lo = block.iter().copied().fold(0f32, f32::min);
                    let hi = block.iter().copied().fold(0f32, f32::max);
                    let (scale, zero) = how.fit(lo, hi);
                    let error =
                        |&w: &f32| w - (how.code(w, scale, zero) as i32 - zero) as f32 * scale;
                    let errors: Vec<f32> = block.iter().map(error).collect();
                    let first = b * how.size;
                    sum += f64::from(peaks.noise(first, &unscaled(&errors, &by[first..])));
                }
            }
        }
        sum
    };
    let ones = vec![1f32; k];
    let mut best = (lost(&ones), ones);
    for step in 1..20 {
        let alpha = f64::from(step) / 20.0;
        let mut by: Vec<f32> = means.iter().map(|m| m.powf(alpha).max(1e-4) as f32).collect();
        let (least, most) = by.iter().fold((f32::MAX, 0f32), |(a, b), &s| (a.min(s), b.max(s)));
        let middle = usable((least * most).sqrt());
        by.iter_mut().for_each(|s| *s /= middle);
        let found = lost(&by);
        if found < best.0 {
            best = (found, by);
        }
    }
    best.1
}
