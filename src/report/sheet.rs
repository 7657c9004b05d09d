//! Contact sheets and plots.

use std::{path::Path, sync::Once};

use plotters::{
    prelude::*,
    style::{FontStyle, register_font},
};
use tch::{Kind, Tensor};

use crate::{Error, files::images};

/// Height in pixels below which images are enlarged by a whole factor, so that a person can see them.
const COMFORTABLE: i64 = 80;
/// Side in pixels above which images are reduced by a whole factor, so that a sheet of photographs stays small enough
/// to look at.
const LARGE: i64 = 1024;
const GAP: i64 = 4;
const HEADER: i64 = 26;
const MARGIN: i64 = 12;
const TEXT: RGBColor = RGBColor(40, 40, 40);
const LINE: RGBColor = RGBColor(31, 119, 180);
const BESIDE: RGBColor = RGBColor(214, 100, 20);
const FAINT: RGBColor = RGBColor(150, 150, 150);

fn fonts() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // A font that cannot be read leads to missing text, which is no reason to lose the images.
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}

/// Converts bytes `[channels, height, width]` to colour, enlarged to `height` or reduced to at most [`LARGE`].
fn tile(image: &Tensor, height: i64) -> Tensor {
    let image = &smaller(image);
    let scale = (height + image.size()[1] - 1) / image.size()[1];
    let image = if image.size()[0] == 1 { image.repeat([3, 1, 1]) } else { image.shallow_clone() };
    image.repeat_interleave_self_int(scale, 1, None).repeat_interleave_self_int(scale, 2, None)
}

/// Averages k × k pixels, for the least k that makes an image no larger than [`LARGE`] on either side.
fn smaller(image: &Tensor) -> Tensor {
    let factor = (image.size()[1].max(image.size()[2]) + LARGE - 1) / LARGE;
    if factor == 1 {
        return image.shallow_clone();
    }
    let pixels = image.unsqueeze(0).to_kind(Kind::Float);
    let means = pixels.avg_pool2d([factor, factor], [factor, factor], [0, 0], false, true, None);
    means.get(0).round().to_kind(Kind::Uint8)
}

/// Arranges images of bytes, `[channels, height, width]` of one size, in rows of `columns` on white:
/// `[3, height, width]`.
pub fn grid(images: &[Tensor], columns: usize) -> Tensor {
    let rows: Vec<(String, Vec<Tensor>)> = images
        .chunks(columns.max(1))
        .map(|row| (String::new(), row.iter().map(Tensor::shallow_clone).collect()))
        .collect();
    paste(&rows, 0)
}

/// Writes images `[count, channels, height, width]` in data units −1 … 1 side by side, as a PNG file that is nearly
/// square.
pub fn write_grid(path: &Path, images: &Tensor) -> Result<(), Error> {
    let bytes = images::to_bytes(images);
    write_square(path, &(0..bytes.size()[0]).map(|i| bytes.get(i)).collect::<Vec<_>>())
}

/// Writes images of bytes, `[channels, height, width]` each, as a square sheet.
pub fn write_square(path: &Path, images: &[Tensor]) -> Result<(), Error> {
    images::write_png(path, &grid(images, (images.len() as f64).sqrt().ceil() as usize))
}

/// Arranges rows of images on a sheet with a heading above each column.
pub fn sheet(headings: &[String], rows: &[(String, Vec<Tensor>)]) -> Result<Tensor, Error> {
    let canvas = paste(rows, HEADER);
    let size = canvas.size();
    let (height, width) = (size[1], size[2]);
    let mut pixels = images::bytes(&canvas.permute([1, 2, 0]))?;
    let step = rows.iter().flat_map(|(_, row)| row).map(|image| tile(image, COMFORTABLE).size()[2]).max();
    let step = step.unwrap_or(COMFORTABLE) + GAP;
    fonts();
    {
        let area = BitMapBackend::with_buffer(&mut pixels, (width as u32, height as u32)).into_drawing_area();
        let style = ("sans-serif", 15).into_font().color(&TEXT);
        for (i, heading) in headings.iter().enumerate() {
            let at = ((MARGIN + i as i64 * step) as i32, 8);
            area.draw_text(heading, &style, at).map_err(|e| Error::file("sheet", e))?;
        }
    }
    Ok(Tensor::f_from_data_size(&pixels, &[height, width, 3], Kind::Uint8)?.permute([2, 0, 1]))
}

fn paste(rows: &[(String, Vec<Tensor>)], header: i64) -> Tensor {
    let tiles: Vec<Vec<Tensor>> =
        rows.iter().map(|(_, row)| row.iter().map(|image| tile(image, COMFORTABLE)).collect()).collect();
    let (height, width) = tiles.iter().flatten().fold((1, 1), |(h, w), t| (h.max(t.size()[1]), w.max(t.size()[2])));
    let columns = tiles.iter().map(Vec::len).max().unwrap_or(0) as i64;
    let total = [
        3,
        header + 2 * MARGIN - GAP + tiles.len() as i64 * (height + GAP),
        2 * MARGIN - GAP + columns * (width + GAP),
    ];
    let canvas = Tensor::full(total, 255, (Kind::Uint8, tch::Device::Cpu));
    for (y, row) in tiles.iter().enumerate() {
        for (x, tile) in row.iter().enumerate() {
            let (top, left) = (header + MARGIN + y as i64 * (height + GAP), MARGIN + x as i64 * (width + GAP));
            let place = canvas.narrow(1, top, tile.size()[1]).narrow(2, left, tile.size()[2]);
            place.shallow_clone().copy_(tile);
        }
    }
    canvas
}

/// Plots a curve of `points` with a logarithmic vertical axis, `[3, 360, 640]`.
pub fn curve(title: &str, horizontal: &str, points: &[(f64, f64)]) -> Result<Tensor, Error> {
    curves(title, horizontal, (640, 360), &[(String::new(), points.to_vec())])
}

/// Plots curves with a logarithmic vertical axis, each with its name in the legend: `[3, height, width]`.
///
/// Values that are not positive are left out; the horizontal axis includes 0.
pub fn curves(
    title: &str,
    horizontal: &str,
    (width, height): (u32, u32),
    curves: &[(String, Vec<(f64, f64)>)],
) -> Result<Tensor, Error> {
    painted((width, height), title, |pixels, size| draw(pixels, size, title, horizontal, curves))
}

/// Creates a white picture, `[3, height, width]`, and draws on it with `paint`.
fn painted(
    size: (u32, u32),
    title: &str,
    paint: impl FnOnce(&mut [u8], (u32, u32)) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<Tensor, Error> {
    let mut pixels = vec![255; (size.0 * size.1 * 3) as usize];
    fonts();
    paint(&mut pixels, size).map_err(|e| Error::file(title, e))?;
    let shape = [i64::from(size.1), i64::from(size.0), 3];
    Ok(Tensor::f_from_data_size(&pixels, &shape, Kind::Uint8)?.permute([2, 0, 1]))
}

/// A line of a plot.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points in the order in which they are joined; both coordinates are positive.
    pub points: Vec<(f64, f64)>,
}

/// Plots lines on logarithmic axes, with a legend beside them and `floor` as a dashed line, `[3, 520, 960]`.
pub fn lines(title: &str, axes: (&str, &str), series: &[Series], floor: Option<f64>) -> Result<Tensor, Error> {
    painted((960, 520), title, |pixels, size| plot(pixels, size, (title, axes), series, floor))
}

/// Returns the range of the positive values, widened by a factor of 1.15 at both ends.
fn around(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let positive = values.filter(|value| *value > 0.0 && value.is_finite());
    let (low, high) = positive.fold((f64::INFINITY, 0f64), |(low, high), value| (low.min(value), high.max(value)));
    if low <= high { (low / 1.15, high * 1.15) } else { (0.1, 1.0) }
}

/// Lists 1, 2 and 5 times the powers of ten within a range.
fn marks((low, high): (f64, f64)) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all = powers.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
    all.filter(|mark| (low..=high).contains(mark)).collect()
}

/// Chooses the marks of a horizontal axis: the points' own numbers, as in the tables, or those of [`marks`] where there
/// are more than 8. If the marks of two numbers would overlap, the number of more points is marked.
fn columns(points: impl Iterator<Item = f64>, range: (f64, f64)) -> Vec<f64> {
    const APART: f64 = 0.04;
    let mut all: Vec<f64> = points.collect();
    all.sort_by(f64::total_cmp);
    let mut own: Vec<(usize, f64)> = all.chunk_by(|a, b| a == b).map(|same| (same.len(), same[0])).collect();
    if own.len() > 8 {
        return marks(range);
    }
    own.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let near = |a: f64, b: f64| (a / b).ln().abs() < APART * (range.1 / range.0).ln();
    let mut kept: Vec<f64> = Vec::new();
    for (_, value) in own {
        if !kept.iter().any(|other| near(value, *other)) {
            kept.push(value);
        }
    }
    kept.sort_by(f64::total_cmp);
    kept
}

/// Formats a number on a logarithmic axis, without the rounding errors of its powers.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "plotters asks for it")]
fn mark_of(value: &f64) -> String {
    let digits = value.log10().floor();
    match value {
        1.0..1e5 => format!("{value:.0}"),
        0.01..1.0 => format!("{value:.*}", (-digits) as usize),
        _ => format!("{value:.0e}"),
    }
}

/// Returns the colour of line `i`, and whether its marks are filled: after ten lines the colours repeat with hollow
/// marks.
fn style(i: usize) -> (RGBColor, bool) {
    const COLOURS: [(u8, u8, u8); 10] = [
        (31, 119, 180),
        (255, 127, 14),
        (44, 160, 44),
        (214, 39, 40),
        (148, 103, 189),
        (140, 86, 75),
        (227, 119, 194),
        (110, 110, 110),
        (188, 189, 34),
        (23, 190, 207),
    ];
    let (red, green, blue) = COLOURS[i % COLOURS.len()];
    (RGBColor(red, green, blue), i < COLOURS.len())
}

fn plot(
    pixels: &mut [u8],
    size: (u32, u32),
    (title, (horizontal, vertical)): (&str, (&str, &str)),
    series: &[Series],
    floor: Option<f64>,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = BitMapBackend::with_buffer(pixels, size).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(size.0 as i32 - 280);
    let all = || series.iter().flat_map(|series| series.points.iter());
    let (x, y) = (around(all().map(|p| p.0)), around(all().map(|p| p.1).chain(floor)));
    let mut chart = ChartBuilder::on(&left)
        .caption(title, ("sans-serif", 18).into_font().color(&TEXT))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (x.0..x.1).log_scale().with_key_points(columns(all().map(|p| p.0), x)),
            (y.0..y.1).log_scale().with_key_points(marks(y)),
        )?;
    let mesh = RGBColor(235, 235, 235);
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(mesh)
        .x_desc(horizontal)
        .y_desc(vertical)
        .x_label_formatter(&mark_of)
        .y_label_formatter(&mark_of)
        .draw()?;
    if let Some(floor) = floor {
        let dashes = DashedLineSeries::new([(x.0, floor), (x.1, floor)], 6, 4, TEXT.stroke_width(1));
        chart.draw_series(dashes)?;
    }
    for (i, series) in series.iter().enumerate() {
        let (colour, filled) = style(i);
        let mark = if filled { colour.filled() } else { colour.stroke_width(1) };
        chart.draw_series(LineSeries::new(series.points.iter().copied(), colour.stroke_width(2)))?;
        chart.draw_series(series.points.iter().map(|point| Circle::new(*point, 4, mark)))?;
        let top = 44 + 20 * i as i32;
        right.draw(&PathElement::new(vec![(4, top), (32, top)], colour.stroke_width(2)))?;
        right.draw(&Circle::new((18, top), 4, mark))?;
        right.draw_text(&series.name, &("sans-serif", 14).into_font().color(&TEXT), (40, top - 8))?;
    }
    area.present()?;
    Ok(())
}

fn draw(
    pixels: &mut [u8],
    size: (u32, u32),
    title: &str,
    horizontal: &str,
    curves: &[(String, Vec<(f64, f64)>)],
) -> Result<(), Box<dyn std::error::Error>> {
    let area = BitMapBackend::with_buffer(pixels, size).into_drawing_area();
    area.fill(&WHITE)?;
    let points = || curves.iter().flat_map(|(_, points)| points).filter(|(_, y)| *y > 0.0);
    let (first, last) = points().fold((0f64, 1f64), |(first, last), (x, _)| (first.min(*x), last.max(*x)));
    let (low, high) = points().fold((f64::INFINITY, 0f64), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    let (low, high) = if low < high { (low * 0.9, high * 1.1) } else { (0.1, 1.0) };
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18).into_font().color(&TEXT))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(56)
        .build_cartesian_2d(first..last, (low..high).log_scale())?;
    chart.configure_mesh().light_line_style(RGBColor(235, 235, 235)).x_desc(horizontal).draw()?;
    for ((name, points), colour) in curves.iter().zip([LINE, BESIDE, FAINT].into_iter().cycle()) {
        let points = points.iter().copied().filter(|(_, y)| *y > 0.0);
        let drawn = chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
        if !name.is_empty() {
            drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
    }
    if curves.iter().any(|(name, _)| !name.is_empty()) {
        let place = SeriesLabelPosition::LowerLeft;
        let font = ("sans-serif", 14).into_font().color(&TEXT);
        chart.configure_series_labels().position(place).background_style(WHITE).label_font(font).draw()?;
    }
    area.present()?;
    Ok(())
}
