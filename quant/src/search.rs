//! Finds which layers can be in integers while the metric stays: rank, bisect, then give back.
//!
//! 1. Everything as the configuration says. If that is accurate enough, it is the answer.
//! 2. Each layer alone in its form, all others float: the damage it does ranks the layers.
//! 3. Bisection: how many of the worst must stay float for the goal to hold.
//! 4. Each of those, the least harmful first, tries milder forms and stays in the first that holds.
//! 5. The half of the samples that was not used says what the answer is worth.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rinfer::{Model, Value};
use serde_json::{Value as Json, json};

use crate::calibrate::{Running, Samples};
use crate::error::{Error, Result};
use crate::forms::{Choice, Form};
use crate::ladder::{Rung, ladder};
use crate::metric::{Goal, Interval, Metric, Outcome, damage, interval};
use crate::plan::{Decision, Job};
use crate::probe::Probe;

/// A user's own measure: a model in, a number out.
pub type Command<'a> = &'a dyn Fn(&Model) -> Result<f64>;

/// What is asked of a search.
pub struct Ask<'a> {
    /// What is measured.
    pub metric: Metric,
    /// How good it must be.
    pub goal: Goal,
    /// Runs [`Metric::Command`].
    pub command: Option<Command<'a>>,
    /// The right answers of sample `i`.
    pub labels: &'a dyn Fn(usize) -> Option<Vec<i64>>,
    /// When to stop trying.
    pub budget: Option<Duration>,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// What was measured before, and is not measured again.
    pub cache: Cache,
    /// Called when something was measured.
    pub keep: &'a dyn Fn(&Cache),
}

/// What was measured: damages by layer, and values by what layers were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cache {
    /// What all of it is about; another search's measures are of no use.
    pub about: String,
    /// A layer's form and its damage alone.
    pub damages: BTreeMap<String, f64>,
    /// The metric of a whole model.
    pub values: BTreeMap<String, f64>,
}

impl Cache {
    /// For a file.
    pub fn to_json(&self) -> Json {
        json!({"about": self.about, "damages": self.damages, "values": self.values})
    }

    /// What [`Cache::to_json`] wrote.
    pub fn from_json(json: &Json) -> Cache {
        let numbers = |j: &Json| -> BTreeMap<String, f64> {
            let entries = j.as_object().into_iter().flatten();
            entries.filter_map(|(k, v)| Some((k.clone(), v.as_f64()?))).collect()
        };
        Cache {
            about: json["about"].as_str().unwrap_or("").into(),
            damages: numbers(&json["damages"]),
            values: numbers(&json["values"]),
        }
    }
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What each layer is, and why.
    pub decisions: Vec<Decision>,
    /// Whether the goal holds on the samples of the search.
    pub reached: bool,
    /// The float model's metric, and the answer's, on the samples of the search.
    pub searched: (f64, f64),
    /// The same on the samples that were held out; `None` for a command.
    pub held_out: Option<(f64, f64)>,
    /// The drop on the samples held out.
    pub interval: Option<Interval>,
    /// Whether the goal holds with 95 % confidence.
    pub shown: bool,
    /// Samples that would show it, roughly, if these do not.
    pub samples_needed: Option<usize>,
    /// Damage of each layer alone.
    pub damages: Vec<(String, f64)>,
    /// How often the whole model was measured, and layers alone.
    pub evaluations: (usize, usize),
}

/// A layer, and what it loses alone.
#[derive(Clone, Debug)]
pub struct Sensitivity {
    /// The number of the layer in the job.
    pub layer: usize,
    /// Noise over signal of the model's outputs with this layer alone quantized.
    pub damage: f64,
}

/// The layers that are to be quantized, the most harmful first, and how many samples told so: as
/// many as it takes until the order is settled, at most [`RANKED`].
///
/// # Errors
/// A sample cannot be read or run.
pub fn sensitivity(
    job: &Job,
    decisions: &[Decision],
    samples: &dyn Samples,
    running: &Running<'_>,
) -> Result<(Vec<Sensitivity>, usize)> {
    let labels = |_: usize| None;
    let ask = Ask {
        metric: Metric::Cosine,
        goal: Goal::Drop(0.0),
        command: None,
        labels: &labels,
        budget: None,
        seed: 0,
        cache: Cache::default(),
        keep: &|_| {},
    };
    let choices: Vec<Choice> = decisions.iter().map(|d| d.choice.clone()).collect();
    let mut search = Search::new(job, &choices, samples, running, ask)?;
    let few = samples.len().div_ceil(RANKED).max(1);
    let which: Vec<usize> = (0..samples.len()).step_by(few).collect();
    search.rank(&which)
}

/// Samples that rank layers: every run of the model counts as often as it has layers.
pub const RANKED: usize = 8;

/// Fewer layers than this are ranked by all samples: it takes little time.
const MANY: usize = 8;

/// How well the order by all samples that were seen would be found again with as many others, from
/// which the order of one half agrees with that of the other (Spearman–Brown).
const SETTLED: f64 = 0.98;

/// Searches.
///
/// # Errors
/// A sample cannot be read or run, or the command fails.
pub fn search(
    job: &Job,
    base: &[Decision],
    samples: &dyn Samples,
    running: &Running<'_>,
    ask: Ask<'_>,
) -> Result<Found> {
    let choices: Vec<Choice> = base.iter().map(|d| d.choice.clone()).collect();
    let mut search = Search::new(job, &choices, samples, running, ask)?;
    search.go(base)
}

/// Samples of a search, and those held out; of fewer than four each is both.
fn halves(n: usize) -> (Vec<usize>, Vec<usize>) {
    match n {
        0..4 => ((0..n).collect(), (0..n).collect()),
        _ => ((0..n).step_by(2).collect(), (1..n).step_by(2).collect()),
    }
}

/// The samples that a search sees: what calibrates for it must not see more.
pub struct Searched<'a>(pub &'a dyn Samples);

impl Samples for Searched<'_> {
    fn len(&self) -> usize {
        halves(self.0.len()).0.len()
    }

    fn get(&self, i: usize) -> Result<crate::Sample> {
        self.0.get(halves(self.0.len()).0[i])
    }
}

struct Search<'a> {
    job: &'a Job,
    probe: Probe,
    /// The forms of each layer: float, the base, then the milder ones.
    rungs: Vec<Vec<Rung>>,
    samples: &'a dyn Samples,
    running: &'a Running<'a>,
    ask: Ask<'a>,
    /// Samples of the search, and those held out.
    halves: (Vec<usize>, Vec<usize>),
    /// What the float model says of each sample.
    wanted: BTreeMap<usize, Vec<Value>>,
    started: Option<Instant>,
    evaluations: (usize, usize),
}

impl<'a> Search<'a> {
    fn new(
        job: &'a Job,
        base: &[Choice],
        samples: &'a dyn Samples,
        running: &'a Running<'a>,
        mut ask: Ask<'a>,
    ) -> Result<Search<'a>> {
        let probe = Probe::new(job, running)?;
        let mut rungs = Vec::with_capacity(base.len());
        for (i, choice) in base.iter().enumerate() {
            let steps = ladder(job, &job.layers[i], choice);
            for step in &steps {
                probe.add(i, &step.choice);
            }
            rungs.push(steps);
        }
        let about = about(job, base, samples, &ask);
        if ask.cache.about != about {
            ask.cache = Cache { about, ..Cache::default() };
        }
        if samples.is_empty() {
            return Err(Error::Config("a search needs samples".into()));
        }
        let halves = halves(samples.len());
        Ok(Search {
            job,
            probe,
            rungs,
            samples,
            running,
            ask,
            halves,
            wanted: BTreeMap::new(),
            started: Some(Instant::now()),
            evaluations: (0, 0),
        })
    }

    /// Layers that are to be quantized.
    fn candidates(&self) -> Vec<usize> {
        (0..self.rungs.len()).filter(|&i| !self.rungs[i].is_empty()).collect()
    }

    fn float(&mut self, i: usize) -> Result<Vec<Value>> {
        if let Some(found) = self.wanted.get(&i) {
            return Ok(found.clone());
        }
        self.probe.set_all(&vec![0; self.rungs.len()]);
        let made = self.probe.run(self.samples.get(i)?, &self.running.options)?;
        self.wanted.insert(i, made.clone());
        Ok(made)
    }

    /// Layers by the damage that each does alone, the worst first. What is upstream of a layer is
    /// computed once for each sample.
    fn rank(&mut self, which: &[usize]) -> Result<(Vec<Sensitivity>, usize)> {
        let candidates = self.candidates();
        let key =
            |s: &Search<'_>, i: usize| format!("{}={}", s.job.layers[i].name, s.rungs[i][0].name);
        let known = |s: &Search<'_>, i: usize| s.ask.cache.damages.contains_key(&key(s, i));
        let todo: Vec<usize> = candidates.iter().copied().filter(|&i| !known(self, i)).collect();
        let mut sums = vec![[0.0; 2]; self.rungs.len()];
        let (mut done, mut used) = (0, 0);
        for &sample in which.iter().filter(|_| !todo.is_empty()) {
            let want = self.probe.record(self.samples.get(sample)?, &self.running.options)?;
            for &i in &todo {
                self.probe.replay(i.max(1));
                self.probe.set(i, 1);
                let got = self.probe.run(self.samples.get(sample)?, &self.running.options)?;
                self.probe.set(i, 0);
                sums[i][used % 2] += damage(&want, &got);
                done += 1;
                (self.running.progress)("layers alone", done, todo.len() * which.len());
            }
            self.probe.replay(0);
            self.wanted.insert(sample, want);
            used += 1;
            let halves = [0, 1].map(|h| todo.iter().map(|&i| sums[i][h]).collect::<Vec<f64>>());
            if used % 2 == 0 && todo.len() >= MANY && settled(&halves[0], &halves[1]) {
                break;
            }
        }
        for &i in &todo {
            let key = key(self, i);
            let mean = (sums[i][0] + sums[i][1]) / used.max(1) as f64;
            self.ask.cache.damages.insert(key, mean);
            self.evaluations.1 += 1;
        }
        (self.ask.keep)(&self.ask.cache);
        let of = |i: usize| Sensitivity { layer: i, damage: self.ask.cache.damages[&key(self, i)] };
        let mut ranked: Vec<Sensitivity> = candidates.into_iter().map(of).collect();
        ranked.sort_by(|a, b| b.damage.total_cmp(&a.damage).then(a.layer.cmp(&b.layer)));
        Ok((ranked, used))
    }

    fn outcomes(&mut self, forms: &[usize], which: &[usize]) -> Result<Vec<Vec<Outcome>>> {
        let mut all = Vec::with_capacity(which.len());
        for &sample in which {
            let want = self.float(sample)?;
            self.probe.set_all(forms);
            let got = match forms.iter().all(|&f| f == 0) {
                true => want.clone(),
                false => self.probe.run(self.samples.get(sample)?, &self.running.options)?,
            };
            let labels = (self.ask.labels)(sample);
            all.push(self.ask.metric.outcomes(&want, &got, labels.as_deref()));
        }
        Ok(all)
    }

    fn choices(&self, forms: &[usize]) -> Vec<Choice> {
        let chosen = |(i, &form): (usize, &usize)| match form {
            0 => Form::Float.into(),
            form => self.rungs[i][form - 1].choice.clone(),
        };
        forms.iter().enumerate().map(chosen).collect()
    }

    /// The metric with layers in these forms.
    fn value(&mut self, forms: &[usize]) -> Result<f64> {
        let key: Vec<String> = forms.iter().map(|f| f.to_string()).collect();
        let key = key.join(",");
        if let Some(&found) = self.ask.cache.values.get(&key) {
            return Ok(found);
        }
        let value = match (&self.ask.metric, self.ask.command) {
            (Metric::Command(_), Some(command)) => command(&self.job.write(&self.choices(forms))?)?,
            (Metric::Command(_), None) => {
                return Err(Error::Config("nothing runs the command".into()));
            }
            _ => {
                let which = self.halves.0.clone();
                let outcomes = self.outcomes(forms, &which)?;
                self.ask.metric.value(outcomes.iter().flatten())
            }
        };
        self.evaluations.0 += 1;
        (self.running.progress)("whole models", self.evaluations.0, 0);
        self.ask.cache.values.insert(key, value);
        (self.ask.keep)(&self.ask.cache);
        Ok(value)
    }

    fn out_of_time(&self) -> bool {
        let spent = self.started.map(|at| at.elapsed());
        matches!((self.ask.budget, spent), (Some(budget), Some(spent)) if spent > budget)
    }

    fn go(&mut self, base: &[Decision]) -> Result<Found> {
        let n = self.rungs.len();
        let float = self.value(&vec![0; n])?;
        let least = self.ask.goal.least(float);
        let full: Vec<usize> = (0..n).map(|i| usize::from(!self.rungs[i].is_empty())).collect();
        let mut why: Vec<Option<String>> = vec![None; n];
        let (mut forms, mut ranked) = (full.clone(), Vec::new());
        let mut value = self.value(&full)?;
        if value < least {
            let half = &self.halves.0;
            let few = half.len().div_ceil(RANKED);
            let which: Vec<usize> = half.iter().copied().step_by(few).collect();
            ranked = self.rank(&which)?.0;
            let order: Vec<usize> = ranked.iter().map(|r: &Sensitivity| r.layer).collect();
            let kept = self.bisect(&full, &order, least)?;
            for &i in &order[..kept] {
                forms[i] = 0;
            }
            value = self.value(&forms)?;
            self.give_back(&mut forms, &order[..kept], least, &mut value)?;
            for (place, r) in ranked.iter().enumerate().take(kept) {
                why[r.layer] = Some(self.reason(r, place, forms[r.layer]));
            }
        }
        self.finish(base, forms, why, ranked, (float, value, least))
    }

    fn reason(&self, r: &Sensitivity, place: usize, form: usize) -> String {
        let alone = format!("number {} by damage alone ({:.2e})", place + 1, r.damage);
        match form {
            0 => format!("{alone}: no form of integers keeps the goal"),
            form => format!("{alone}: {} keeps the goal", self.rungs[r.layer][form - 1].name),
        }
    }

    /// How many of the worst must be float.
    fn bisect(&mut self, full: &[usize], order: &[usize], least: f64) -> Result<usize> {
        let (mut fails, mut holds) = (0, order.len());
        // Where few do the harm, few steps find them.
        let mut step = 1;
        while fails + step < holds {
            if self.value(&without(full, &order[..fails + step]))? >= least {
                holds = fails + step;
                break;
            }
            fails += step;
            step *= 2;
        }
        while holds - fails > 1 {
            let middle = fails + (holds - fails) / 2;
            match self.value(&without(full, &order[..middle]))? >= least {
                true => holds = middle,
                false => fails = middle,
            }
        }
        Ok(holds)
    }

    /// Tries milder forms for the layers that were made float, the least harmful first.
    fn give_back(
        &mut self,
        forms: &mut [usize],
        kept: &[usize],
        least: f64,
        value: &mut f64,
    ) -> Result<()> {
        for &i in kept.iter().rev() {
            for form in 1..=self.rungs[i].len() {
                if self.out_of_time() {
                    return Ok(());
                }
                forms[i] = form;
                let tried = self.value(forms)?;
                if tried >= least {
                    *value = tried;
                    break;
                }
                forms[i] = 0;
            }
        }
        Ok(())
    }

    fn finish(
        &mut self,
        base: &[Decision],
        forms: Vec<usize>,
        mut why: Vec<Option<String>>,
        ranked: Vec<Sensitivity>,
        (float, value, least): (f64, f64, f64),
    ) -> Result<Found> {
        let (mut held_out, mut drop, mut needed) = (None, None, None);
        let reached = value >= least;
        let mut shown = reached;
        if !matches!(self.ask.metric, Metric::Command(_)) {
            let which = self.halves.1.clone();
            let want = self.outcomes(&vec![0; forms.len()], &which)?;
            let got = self.outcomes(&forms, &which)?;
            let of = |all: &[Vec<Outcome>]| self.ask.metric.value(all.iter().flatten());
            let (a, b) = (of(&want), of(&got));
            let i = interval(&self.ask.metric, &want, &got, self.ask.seed);
            let allowed = a - self.ask.goal.least(a);
            shown = match self.ask.goal {
                Goal::Least(least) => b >= least,
                _ => i.high <= allowed,
            };
            if !shown && i.drop < allowed {
                // An interval shrinks with the root of the samples.
                let times = (i.high - i.drop) / (allowed - i.drop);
                let zero = i.low == i.high || i.drop == 0.0;
                let times = if zero { times } else { times * times };
                needed = Some((self.samples.len() as f64 * times).ceil() as usize);
            }
            (held_out, drop) = (Some((a, b)), Some(i));
        }
        let choices = self.choices(&forms);
        let decisions = base.iter().zip(choices).enumerate().map(|(i, (base, choice))| Decision {
            why: match why[i].take() {
                Some(why) => why,
                None if self.rungs[i].is_empty() => base.why.clone(),
                None => format!("{}; the goal holds with it", base.why),
            },
            choice,
        });
        let decisions = decisions.collect();
        let name = |r: &Sensitivity| (self.job.layers[r.layer].name.clone(), r.damage);
        Ok(Found {
            decisions,
            reached,
            searched: (float, value),
            held_out,
            interval: drop,
            shown,
            samples_needed: needed,
            damages: ranked.iter().map(name).collect(),
            evaluations: self.evaluations,
        })
    }
}

/// Whether two orders agree so well that the order of their sum is settled.
fn settled(a: &[f64], b: &[f64]) -> bool {
    let r = spearman(a, b);
    2.0 * r / (1.0 + r) >= SETTLED
}

/// Spearman's rank correlation.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |x: &[f64]| {
        let mut order: Vec<usize> = (0..x.len()).collect();
        order.sort_by(|&i, &j| x[i].total_cmp(&x[j]).then(i.cmp(&j)));
        let mut ranks = vec![0f64; x.len()];
        order.iter().enumerate().for_each(|(rank, &i)| ranks[i] = rank as f64);
        ranks
    };
    let n = a.len() as f64;
    let squares: f64 = ranks(a).iter().zip(ranks(b)).map(|(x, y)| (x - y).powi(2)).sum();
    if a.len() < 2 { 1.0 } else { 1.0 - 6.0 * squares / (n * (n * n - 1.0)) }
}

fn without(full: &[usize], float: &[usize]) -> Vec<usize> {
    let mut forms = full.to_vec();
    float.iter().for_each(|&i| forms[i] = 0);
    forms
}

/// What measures are about: the model's layers in their base forms, some bytes of their weights, the
/// metric and the samples.
fn about(job: &Job, base: &[Choice], samples: &dyn Samples, ask: &Ask<'_>) -> String {
    let mut text = format!("{:?} {}", ask.metric, samples.len());
    let graphs = crate::rebuild::graphs(job.model.graph());
    for (layer, choice) in job.layers.iter().zip(base) {
        let weight = graphs.get(&layer.site.graph).and_then(|g| g.tensor(layer.weight));
        let bytes = weight.map_or(&[][..], |t| t.as_bytes());
        let some = bytes.iter().step_by((bytes.len() / 256).max(1) | 1);
        let sum = some.fold(0u64, |sum, &b| sum.wrapping_mul(31).wrapping_add(b.into()));
        text.push_str(&format!(";{}={:?} {sum:x}", layer.name, choice.form));
    }
    // FNV-1a: the same on every machine.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

impl Found {
    /// Whether every layer has the form it was to have.
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty()
    }

    /// For a report.
    pub fn to_json(&self) -> Json {
        let finite = |x: f64| if x.is_finite() { json!(x) } else { json!(x.to_string()) };
        json!({
            "reached": self.reached, "shown": self.shown,
            "float": finite(self.searched.0), "quantized": finite(self.searched.1),
            "held_out_float": self.held_out.map(|h| finite(h.0)),
            "held_out_quantized": self.held_out.map(|h| finite(h.1)),
            "drop": self.interval.map(|i| finite(i.drop)),
            "drop_95_percent": self.interval.map(|i| json!([finite(i.low), finite(i.high)])),
            "samples_needed": self.samples_needed,
            "evaluations": {"models": self.evaluations.0, "layers": self.evaluations.1},
            "damages": self.damages.iter().map(|(name, d)| json!({"layer": name, "damage": d}))
                .collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_agree_are_settled() {
        let a: Vec<f64> = (0..40).map(|i| f64::from(i * i)).collect();
        let mut b = a.clone();
        assert_eq!(spearman(&a, &b), 1.0);
        b.swap(3, 4);
        assert!(settled(&a, &b));
        b.reverse();
        assert!(spearman(&a, &b) < -0.9 && !settled(&a, &b));
    }
}
