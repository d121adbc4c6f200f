//! The chart: a bar for each figure on a logarithmic axis, from what it is compared with to what it is. To the
//! left is better, in both parts: against a reference of the same run, and against a fixed limit.
//!
//! Plain SVG that needs nothing else: the reader's own font, and colours for a light and for a dark page.

use super::judge::{Row, Verdict};
use super::machine::Machine;
use super::measurements::Goal;
use super::unit::exact;

/// In pixels, as all lengths here: what fits beside the text of a README.
const WIDTH: f64 = 880.0;
const MARGIN: f64 = 16.0;
const PLOT_LEFT: f64 = 300.0;
const PLOT_RIGHT: f64 = 620.0;
const FIGURES_LEFT: f64 = 640.0;
const ROW_HEIGHT: f64 = 24.0;
const HEADING_HEIGHT: f64 = 40.0;
const TITLE_HEIGHT: f64 = 42.0;
const FOOTER_HEIGHT: f64 = 64.0;
const BAR_HEIGHT: f64 = 8.0;
/// What fits between the margin and the plot.
const LABEL_CHARACTERS_MAX: usize = 42;

/// A thousandth to a thousand times: what is beyond is drawn at the edge, and its figures stand beside it.
const COST_MIN: f64 = 1e-3;
const COST_MAX: f64 = 1e3;
/// Labels of the axis need so much room each.
const TICK_SPACING_MIN: f64 = 44.0;

const STYLE: &str = "
text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #24292f; }
.title { font-size: 16px; font-weight: 600; }
.heading { font-weight: 600; }
.faint { font-size: 12px; fill: #656d76; }
.number { font-variant-numeric: tabular-nums; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.one { stroke: #57606a; stroke-width: 1.5; }
.goal { stroke: #24292f; stroke-width: 2; }
.met { fill: #1f77c9; }
.missed { fill: #c8541b; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .faint { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .one { stroke: #9198a1; }
  .goal { stroke: #e6edf3; }
  .met { fill: #58a6ff; }
  .missed { fill: #f0883e; }
}
";

/// The whole chart. Rows without a figure, or without the reference that their goal is about, are left out.
pub fn svg(rows: &[Row], machine: &Machine) -> String {
    let drawn: Vec<&Row> = rows.iter().filter(|row| row.cost().is_some()).collect();
    let axis = Axis::over(&drawn);
    let (beside, below): (Vec<&Row>, Vec<&Row>) =
        drawn.iter().partition(|row| matches!(row.measurement.goal, Some(Goal::Times(_))));
    let parts = [
        ("Beside the same work", "1 x is the reference, the tick is the goal", beside),
        ("Below a limit", "1 x is the limit", below),
    ];
    let mut body = text(MARGIN, 28.0, "title", "Paguro, measured");
    body += &text(PLOT_LEFT, 28.0, "faint", "to the left is better; rates are turned round");
    let mut y = TITLE_HEIGHT;
    for (heading, note, rows) in parts.iter().filter(|(_, _, rows)| !rows.is_empty()) {
        body += &text(MARGIN, y + 26.0, "heading", heading);
        body += &text(PLOT_LEFT, y + 26.0, "faint", note);
        y += HEADING_HEIGHT;
        let height = ROW_HEIGHT * rows.len() as f64;
        body += &axis.grid(y, y + height);
        for (place, row) in rows.iter().enumerate() {
            body += &bar(row, &axis, y + ROW_HEIGHT * (place as f64 + 0.5));
        }
        y += height;
    }
    body += &axis.labels(y + 18.0);
    body += &text(MARGIN, y + 48.0, "faint", &machine.line());
    document(y + FOOTER_HEIGHT, &body)
}

fn document(height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>Paguro beside Erlang, bare wasmtime and bare axum</title>\n\
         <style>{STYLE}</style>\n{body}</svg>\n"
    )
}

/// The name, the bar from 1 x to the figure with a dot at its end, and the figures in words. The dot shows a
/// figure that is all but 1 x; the word `missed` says what the colour says.
fn bar(row: &Row, axis: &Axis, y: f64) -> String {
    let (Some(cost), Some(ours)) = (row.cost(), row.ours) else { return String::new() };
    let class = if row.verdict == Verdict::Missed { "missed" } else { "met" };
    let (one, end) = (axis.x(1.0), axis.x(cost));
    let (left, width, top) = (one.min(end), (one - end).abs(), y - BAR_HEIGHT / 2.0);
    let mut drawn = text(MARGIN, y + 4.5, "", &shortened(&row.what));
    drawn += &format!(
        "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\" \
         opacity=\"0.55\"/>\n<circle class=\"{class}\" cx=\"{end:.1}\" cy=\"{y:.1}\" r=\"5.5\"/>\n"
    );
    if let (Some(Goal::Times(_)), Some(cost_max)) = (row.measurement.goal, row.cost_max()) {
        drawn += &line("goal", axis.x(cost_max), y - 8.0, y + 8.0);
    }
    let unit = row.measurement.unit;
    let beside = match (row.measurement.goal, row.reference) {
        (Some(Goal::Times(_)), Some((whose, summary))) => format!("{whose} {}", unit.show(summary.median)),
        _ => row.goal().unwrap_or_default(),
    };
    let missed = if row.verdict == Verdict::Missed { ", missed" } else { "" };
    drawn + &text(FIGURES_LEFT, y + 4.5, "number", &format!("{} · {beside}{missed}", unit.show(ours.median)))
}

/// From costs to places.
struct Axis {
    /// Powers of ten.
    from: f64,
    to: f64,
}

impl Axis {
    /// With room for every figure, every goal, and 1 x with something on either side.
    fn over(rows: &[&Row]) -> Axis {
        let costs = rows.iter().flat_map(|row| [row.cost(), row.cost_max()]).flatten();
        let (mut from, mut to) = (0.5, 2.0);
        for cost in costs {
            from = f64::min(from, cost / 1.2);
            to = f64::max(to, cost * 1.2);
        }
        Axis { from: from.max(COST_MIN).log10(), to: to.min(COST_MAX).log10() }
    }

    fn x(&self, cost: f64) -> f64 {
        let exponent = cost.max(COST_MIN).log10().clamp(self.from, self.to);
        PLOT_LEFT + (exponent - self.from) / (self.to - self.from) * (PLOT_RIGHT - PLOT_LEFT)
    }

    /// 1, 2 and 5 of each power of ten where there is room for them, powers alone elsewhere.
    fn ticks(&self) -> Vec<f64> {
        let decade = (PLOT_RIGHT - PLOT_LEFT) / (self.to - self.from);
        let steps: &[f64] = if decade * 0.3 > TICK_SPACING_MIN { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = (self.from.floor() as i32)..=(self.to.ceil() as i32);
        let all = powers.flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
        all.filter(|tick| (self.from..=self.to).contains(&tick.log10())).collect()
    }

    fn grid(&self, top: f64, bottom: f64) -> String {
        let lines = self.ticks().into_iter().map(|tick| {
            let class = if tick == 1.0 { "one" } else { "grid" };
            line(class, self.x(tick), top, bottom)
        });
        lines.collect()
    }

    fn labels(&self, y: f64) -> String {
        let labels = self.ticks().into_iter().map(|tick| {
            let number = if tick < 0.01 { format!("{tick}") } else { exact(tick) };
            let x = self.x(tick);
            format!("<text class=\"faint\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{number} x</text>\n")
        });
        labels.collect()
    }
}

fn line(class: &str, x: f64, top: f64, bottom: f64) -> String {
    format!("<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\"/>\n")
}

fn text(x: f64, y: f64, class: &str, content: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escaped(content))
}

fn shortened(label: &str) -> String {
    match label.char_indices().nth(LABEL_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", label[..end].trim_end()),
        None => label.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::judge::tests::{example, row_of};

    fn machine() -> Machine {
        Machine {
            cpu: "A <CPU> & more".into(),
            cores: 2,
            memory_bytes: 24 << 30,
            kernel: "Linux 6.18".into(),
            wasmtime: "48.0.8".into(),
            erlang: None,
            date: "2026-11-21T17:17:52Z".into(),
            commit: "99dc49c".into(),
        }
    }

    /// Every element is closed, in order; every attribute is quoted; no `&` is bare.
    fn assert_well_formed(svg: &str) {
        let mut open = Vec::new();
        let mut rest = svg;
        while let Some((before, after)) = rest.split_once('<') {
            assert!(!before.contains('>') || before.contains("</style"), "a bare `>`: {before}");
            let (tag, after) = after.split_once('>').expect("a tag ends");
            assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
            let name = tag.trim_matches('/').split(' ').next().unwrap_or_default().to_owned();
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name)),
                (false, true) => {}
                (false, false) => open.push(name),
            }
            rest = after;
        }
        assert!(open.is_empty(), "{open:?}");
        assert_eq!(rest.trim(), "");
        let entities = ["&amp;", "&lt;", "&gt;", "&quot;"];
        let bare =
            svg.match_indices('&').filter(|(at, _)| !entities.iter().any(|entity| svg[*at..].starts_with(entity)));
        assert_eq!(bare.count(), 0);
    }

    #[test]
    fn is_well_formed_whatever_there_is() {
        let rows = example();
        assert_well_formed(&svg(&rows, &machine()));
        assert_well_formed(&svg(&[], &machine()));
        assert!(!svg(&rows, &machine()).contains("NaN"));
    }

    #[test]
    fn has_a_bar_for_each_figure_that_can_be_compared() {
        let rows = example();
        let comparable = rows.iter().filter(|row| row.cost().is_some()).count();
        assert_eq!(svg(&rows, &machine()).matches("<circle").count(), comparable);
        assert_eq!(svg(&rows, &machine()).matches(", missed").count(), 1);
    }

    #[test]
    fn better_is_further_to_the_left() {
        let rows = example();
        let axis = Axis::over(&rows.iter().collect::<Vec<_>>());
        let x = |name: &str| axis.x(row_of(&rows, name).cost().expect("it has figures"));
        assert!(x("pairs-16") < x("call-64") && x("call-64") < axis.x(1.0) && axis.x(1.0) < x("client-call-64"));
        assert!(axis.ticks().contains(&1.0));
    }

    #[test]
    fn what_is_beyond_the_axis_is_at_its_edge() {
        let axis = Axis { from: -3.0, to: 3.0 };
        assert_eq!(axis.x(0.0), PLOT_LEFT);
        assert_eq!(axis.x(1e9), PLOT_RIGHT);
        assert_eq!(axis.ticks().len(), 7);
    }

    #[test]
    fn long_labels_end_before_the_plot() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"x".repeat(60)).chars().count(), LABEL_CHARACTERS_MAX + 1);
    }
}
