//! Lines in SVG: axes, ticks, labels, legend, drawn from nothing but numbers, so that a page needs nothing from
//! anywhere else.

use std::fmt::Write;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 52.0;

/// Colours that the colour-blind tell apart (Okabe and Ito); the dash tells them apart in print.
const COLOURS: [(&str, &str); 6] = [
    ("#0072b2", ""),
    ("#d55e00", "7 3"),
    ("#009e73", "2 3"),
    ("#cc79a7", "9 3 2 3"),
    ("#e69f00", "4 2"),
    ("#56b4e9", "1 2"),
];

/// How numbers lie along an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By their logarithm.
    Log,
    /// Percentiles, as far from 100 as their logarithm: 0, 90, 99, 99.9.
    Percentile,
}

/// An axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis<'a> {
    /// What stands along it, with its unit.
    pub label: &'a str,
    /// How numbers lie along it.
    pub scale: Scale,
    /// How a number is written.
    pub form: fn(f64) -> String,
}

/// A line, or points.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
    /// Whether the points are marked.
    pub marked: bool,
}

/// The plot as an `svg` element. Points that cannot be drawn on the scale are left out.
pub fn svg(title: &str, x: Axis<'_>, y: Axis<'_>, lines: &[Line]) -> String {
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = write(&mut out, title, x, y, lines);
    out
}

/// Where a number lies, before it is fitted to the paper.
fn place(scale: Scale, value: f64) -> Option<f64> {
    let place = match scale {
        Scale::Linear => value,
        Scale::Log => value.log10(),
        // The last percent of nothing has no place; a ten-millionth stands for it.
        Scale::Percentile => -((1.0 - value / 100.0).max(1e-7)).log10(),
    };
    place.is_finite().then_some(place)
}

fn ticks(scale: Scale, low: f64, high: f64) -> Vec<f64> {
    match scale {
        Scale::Percentile => {
            let all = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999, 99.9999];
            all.into_iter().filter(|tick| place(scale, *tick).is_some_and(|at| at <= high + 1e-9)).collect()
        }
        Scale::Log => {
            let (first, last) = (low.floor() as i32, high.ceil() as i32);
            let steps: &[f64] = if last - first > 3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let powers = (first..=last).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
            powers.filter(|tick| (low - 1e-9..=high + 1e-9).contains(&tick.log10())).collect()
        }
        Scale::Linear => {
            let rough = (high - low) / 6.0;
            let power = 10f64.powf(rough.abs().max(1e-12).log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|it| *it >= rough).unwrap_or(power);
            let first = (low / step).ceil() as i64;
            (first..)
                .map(|number| number as f64 * step)
                .take_while(|tick| *tick <= high + step * 1e-9)
                .take(20)
                .collect()
        }
    }
}

fn range(axis: Axis<'_>, values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let places = values.filter_map(|value| place(axis.scale, value));
    let (mut low, mut high) = places.fold((f64::MAX, f64::MIN), |(low, high), it| (low.min(it), high.max(it)));
    if low > high {
        return None;
    }
    match axis.scale {
        // A rate that begins anywhere but at nothing looks steeper than it is.
        Scale::Linear => (low, high) = (low.min(0.0), high * 1.05),
        Scale::Log => (low, high) = (low - 0.05, high + 0.05),
        Scale::Percentile => low = 0.0,
    }
    if high - low < 1e-9 {
        high = low + 1.0;
    }
    Some((low, high))
}

fn write(out: &mut String, title: &str, x: Axis<'_>, y: Axis<'_>, lines: &[Line]) -> std::fmt::Result {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let ranges = (range(x, points().map(|it| it.0)), range(y, points().map(|it| it.1)));
    let (Some((x_low, x_high)), Some((y_low, y_high))) = ranges else {
        return write!(out, "<p class=\"none\">{}: nothing to draw.</p>", escaped(title));
    };
    let across = |value: f64| {
        let at = place(x.scale, value)?;
        Some(LEFT + (at - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT))
    };
    let down = |value: f64| {
        let at = place(y.scale, value)?;
        Some(HEIGHT - BOTTOM - (at - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM))
    };
    let legend_height = 20.0 * lines.len().div_ceil(3) as f64;
    let (floor, end) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    writeln!(
        out,
        "<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{}\">",
        HEIGHT + legend_height,
        escaped(title)
    )?;
    for tick in ticks(x.scale, x_low, x_high) {
        let Some(at) = across(tick) else { continue };
        writeln!(out, "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{floor}\"/>")?;
        writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>", floor + 18.0, (x.form)(tick))?;
    }
    for tick in ticks(y.scale, y_low, y_high) {
        let Some(at) = down(tick) else { continue };
        writeln!(out, "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{end}\" y2=\"{at:.1}\"/>")?;
        let (side, text) = (LEFT - 8.0, (y.form)(tick));
        writeln!(out, "<text x=\"{side}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", at + 4.0)?;
    }
    let (middle, low) = ((LEFT + end) / 2.0, floor + 40.0);
    writeln!(
        out,
        "<text class=\"axis\" x=\"{middle}\" y=\"{low}\" text-anchor=\"middle\">{}</text>",
        escaped(x.label)
    )?;
    writeln!(
        out,
        "<text class=\"axis\" transform=\"translate(14 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        (TOP + floor) / 2.0,
        escaped(y.label)
    )?;
    for (line, number) in lines.iter().zip(0_usize..) {
        let (colour, dash) = COLOURS[number % COLOURS.len()];
        let places: Vec<(f64, f64)> = line.points.iter().filter_map(|&(x, y)| Some((across(x)?, down(y)?))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let path = path.join(" ");
        writeln!(
            out,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\" points=\"{path}\"/>"
        )?;
        if line.marked {
            for (x, y) in &places {
                writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>")?;
            }
        }
        let (column, row) = ((number % 3) as f64, (number / 3) as f64);
        let (left, height) = (LEFT + column * 260.0, HEIGHT + 8.0 + row * 20.0);
        writeln!(
            out,
            "<line x1=\"{left}\" y1=\"{height}\" x2=\"{}\" y2=\"{height}\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-dasharray=\"{dash}\"/>",
            left + 28.0
        )?;
        writeln!(out, "<text x=\"{}\" y=\"{}\">{}</text>", left + 34.0, height + 4.0, escaped(&line.name))?;
    }
    writeln!(out, "</svg>")
}

/// Text that can stand anywhere in HTML.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::short;

    fn axis(scale: Scale) -> Axis<'static> {
        Axis { label: "x <&>", scale, form: short }
    }

    #[test]
    fn every_point_lies_on_the_paper_on_every_scale() {
        let points: Vec<(f64, f64)> = (1..100).map(|it| (f64::from(it), f64::from(it * it) * 1e3)).collect();
        for x in [Scale::Linear, Scale::Log, Scale::Percentile] {
            for y in [Scale::Linear, Scale::Log] {
                let line = Line { name: "a<b".into(), points: points.clone(), marked: true };
                let text = svg("t", axis(x), axis(y), &[line]);
                assert!(text.contains("a&lt;b") && text.contains("x &lt;&amp;&gt;"));
                assert_eq!(text.matches("<circle").count(), 99);
                for part in text.split("cx=\"").skip(1) {
                    let at: f64 = part.split('"').next().unwrap().parse().unwrap();
                    assert!((LEFT - 0.1..=WIDTH - RIGHT + 0.1).contains(&at), "{x:?} {at}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert!(svg("t", axis(Scale::Linear), axis(Scale::Log), &[]).contains("nothing to draw"));
        let line = Line { name: "a".into(), points: vec![(1.0, 0.0), (2.0, 5.0), (f64::NAN, 1.0)], marked: true };
        assert_eq!(svg("t", axis(Scale::Linear), axis(Scale::Log), &[line]).matches("<circle").count(), 1);
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(Scale::Linear, 0.0, 1_050.0), [0.0, 200.0, 400.0, 600.0, 800.0, 1_000.0]);
        assert_eq!(ticks(Scale::Log, 1.9, 3.1), [100.0, 200.0, 500.0, 1_000.0]);
        assert_eq!(ticks(Scale::Percentile, 0.0, 2.0), [0.0, 50.0, 90.0, 99.0]);
    }
}
