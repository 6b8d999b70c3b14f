//! Plots as SVG: bars, and kernels under the roofs of an adapter.
//!
//! Colours are the page's (`--c0`, `--ink`, `--line`, …), so that one plot serves light and dark.

use std::fmt::Write;

use crate::schema::{Group, Machine, Row};

/// Text that is safe between tags and in attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// A number with three digits that count.
pub fn short(x: f64) -> String {
    match x.abs() {
        _ if !x.is_finite() => "–".to_string(),
        a if a >= 1e6 || (a != 0.0 && a < 1e-3) => format!("{x:.2e}"),
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        0.0 => "0".to_string(),
        _ => format!("{x:.2}"),
    }
}

/// One bar.
pub struct Bar {
    pub label: String,
    /// Where it ends; `None` draws no bar.
    pub value: Option<f64>,
    /// What stands behind it.
    pub text: String,
    /// Which colour of the page.
    pub color: usize,
    /// What the pointer shows.
    pub tip: String,
}

/// How wide a plot of bars is: the labels, all of it, and the text behind bars.
#[derive(Clone, Copy)]
pub struct Width {
    left: f64,
    all: f64,
    right: f64,
}

/// For a third of the page.
pub const NARROW: Width = Width { left: 170.0, all: 430.0, right: 92.0 };
/// For all of it.
pub const WIDE: Width = Width { left: 290.0, all: 900.0, right: 170.0 };

const STEP: f64 = 24.0;

/// Horizontal bars from zero to `most`, or to the longest.
pub fn bars(bars: &[Bar], most: Option<f64>, width: Width) -> String {
    let Width { left, all, right } = width;
    let longest = bars.iter().filter_map(|b| b.value).fold(0.0, f64::max);
    let most = most.unwrap_or(longest).max(longest).max(1e-12);
    let height = STEP * bars.len() as f64 + 4.0;
    let mut svg = format!("<svg viewBox=\"0 0 {all} {height}\" role=\"img\">");
    let _ =
        write!(svg, "<line x1=\"{left}\" y1=\"0\" x2=\"{left}\" y2=\"{height}\" class=\"axis\"/>");
    for (i, bar) in bars.iter().enumerate() {
        let (y, middle) = (STEP * i as f64 + 4.0, STEP * i as f64 + 16.5);
        let length = bar.value.map_or(0.0, |v| (all - left - right) * v / most);
        let _ = write!(
            svg,
            "<g><title>{}</title><text x=\"{}\" y=\"{middle}\" class=\"label\" \
             text-anchor=\"end\">{}</text><rect x=\"{left}\" y=\"{y}\" width=\"{length:.1}\" \
             height=\"16\" rx=\"2\" style=\"fill:var(--c{})\"/><text x=\"{:.1}\" y=\"{middle}\" \
             class=\"{}\">{}</text></g>",
            escape(&bar.tip),
            left - 10.0,
            escape(&bar.label),
            bar.color,
            left + length + 8.0,
            if bar.value.is_some() { "value" } else { "absent" },
            escape(&bar.text)
        );
    }
    svg + "</svg>"
}

/// The kernels of a machine that were measured, with their numbers in reports.
pub fn kernels(machine: &Machine) -> Vec<(usize, &Row)> {
    let all = machine.results.iter().filter(|row| row.group == Group::Kernel);
    all.enumerate().filter(|(_, row)| row.value.is_some()).map(|(i, row)| (i + 1, row)).collect()
}

/// The colour of a kind of kernel.
pub fn kind(name: &str) -> usize {
    match name.split(' ').next().unwrap_or("") {
        "matmul" => 0,
        "conv" | "depthwise" => 1,
        "attention" => 2,
        _ => 3,
    }
}

/// Both axes in powers of ten.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
}

const BOX: (f64, f64, f64, f64) = (64.0, 16.0, 740.0, 400.0);

impl Axes {
    fn x(&self, v: f64) -> f64 {
        let share = (v.log10() - self.x.0) / (self.x.1 - self.x.0);
        BOX.0 + share * (BOX.2 - BOX.0)
    }

    fn y(&self, v: f64) -> f64 {
        let share = (v.log10() - self.y.0) / (self.y.1 - self.y.0);
        BOX.3 - share * (BOX.3 - BOX.1)
    }

    fn draw(&self, svg: &mut String) {
        let (left, top, right, bottom) = BOX;
        let decades = |(from, to): (f64, f64)| from.ceil() as i32..=to.floor() as i32;
        for e in decades(self.x) {
            let (x, v) = (self.x(10f64.powi(e)), 10f64.powi(e));
            let _ = write!(
                svg,
                "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\" class=\"grid\"/>\
                 <text x=\"{x:.1}\" y=\"{}\" class=\"tick\" text-anchor=\"middle\">{v}</text>",
                bottom + 18.0
            );
        }
        for e in decades(self.y) {
            let (y, v) = (self.y(10f64.powi(e)), 10f64.powi(e));
            let _ = write!(
                svg,
                "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" class=\"grid\"/>\
                 <text x=\"{}\" y=\"{:.1}\" class=\"tick\" text-anchor=\"end\">{v}</text>",
                left - 8.0,
                y + 4.0
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{}\" y=\"{}\" class=\"tick\" text-anchor=\"middle\">operations per byte\
             </text><text x=\"14\" y=\"{}\" class=\"tick\" text-anchor=\"middle\" \
             transform=\"rotate(-90 14 {})\">GFLOP/s</text>",
            (left + right) / 2.0,
            bottom + 38.0,
            (top + bottom) / 2.0,
            (top + bottom) / 2.0
        );
    }
}

/// Kernels under the roofs of their machine; `None` where the roofs are not known.
pub fn roofline(machine: &Machine) -> Option<String> {
    let (rate, points) = (machine.bandwidth()?, kernels(machine));
    let roofs: Vec<(&str, f64)> = ["f32", "f16", "int8 dot", "matrix f16"]
        .into_iter()
        .filter_map(|name| Some((name, machine.value(name)?)))
        .collect();
    let top = roofs.iter().map(|r| r.1).reduce(f64::max)?;
    let place = |row: &Row| Some((row.flops? / row.bytes?, row.value?));
    let places: Vec<(f64, f64)> = points.iter().filter_map(|(_, row)| place(row)).collect();
    let xs = || places.iter().map(|p| p.0).chain([top / rate]);
    let low = |it: &mut dyn Iterator<Item = f64>| it.fold(f64::INFINITY, f64::min);
    let least_x = low(&mut xs());
    let least_y = low(&mut places.iter().map(|p| p.1).chain([rate * least_x]));
    let most_x = xs().fold(0.0, f64::max);
    let axes = Axes {
        x: (least_x.log10() - 0.3, most_x.log10() + 0.5),
        y: (least_y.log10() - 0.3, top.log10() + 0.35),
    };
    let mut svg = "<svg viewBox=\"0 0 760 450\" role=\"img\">".to_string();
    axes.draw(&mut svg);
    draw_roofs(&axes, rate, &roofs, &mut svg);
    for (number, row) in &points {
        let Some((x, y)) = place(row) else { continue };
        let _ = write!(
            svg,
            "<g><title>{}: {} {}, {} % of its roof</title><circle cx=\"{:.1}\" cy=\"{:.1}\" \
             r=\"9\" class=\"point\" style=\"fill:var(--c{})\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             class=\"number\" text-anchor=\"middle\">{number}</text></g>",
            escape(&row.name),
            short(y),
            escape(&row.unit),
            short(100.0 * row.roofline.unwrap_or(f64::NAN)),
            axes.x(x),
            axes.y(y),
            kind(&row.name),
            axes.x(x),
            axes.y(y) + 3.5
        );
    }
    Some(svg + "</svg>")
}

/// The slope of the memory, and a level for each unit, labels kept apart.
fn draw_roofs(axes: &Axes, rate: f64, roofs: &[(&str, f64)], svg: &mut String) {
    let top = roofs.iter().map(|r| r.1).fold(0.0, f64::max);
    let (x0, x1) = (10f64.powf(axes.x.0), top / rate);
    let from = x0.max(10f64.powf(axes.y.0) / rate);
    let _ = write!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"roof\"/>",
        axes.x(from),
        axes.y(rate * from),
        axes.x(x1),
        axes.y(top)
    );
    // Beside the slope, a third of the way up.
    let at = 10f64.powf(from.log10() + (x1 / from).log10() / 3.0);
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" class=\"roofname\" text-anchor=\"end\">memory {} GB/s</text>",
        axes.x(at) - 10.0,
        axes.y(rate * at) - 4.0,
        short(rate)
    );
    let mut sorted = roofs.to_vec();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut last = f64::NEG_INFINITY;
    for (name, level) in sorted {
        let y = axes.y(level);
        let label = (y - 5.0).max(last + 14.0);
        last = label;
        let _ = write!(
            svg,
            "<line x1=\"{:.1}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" class=\"roof\"/>\
             <text x=\"{}\" y=\"{label:.1}\" class=\"roofname\" text-anchor=\"end\">{} {}</text>",
            axes.x(level / rate),
            BOX.2,
            BOX.2 - 4.0,
            escape(name),
            short(level)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_page() {
        let bar = Bar {
            label: "<b>\"".to_string(),
            value: Some(1.0),
            text: "&".to_string(),
            color: 0,
            tip: String::new(),
        };
        let svg = bars(&[bar], None, NARROW);
        assert!(svg.contains("&lt;b&gt;&quot;") && svg.contains("&amp;") && !svg.contains("<b>"));
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.123, 12.34, 1234.5, 0.0].map(short), ["0.12", "12.3", "1234", "0"]);
    }
}
