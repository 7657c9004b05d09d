//! What `tweedie restore` shows of its results: pictures, figures, a table, a sheet and a page.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tweedie::{
    Error,
    evaluation::{
        features::Features,
        metrics::{Lpips, Window, psnr, psnr_min_max, ssim},
    },
    files::images,
    models::card::sha256,
    report::{
        animation::{self, FrameRecorder},
        page::{Case, Page, Picture, Table},
        sheet,
    },
};

use super::{Common, command, entries, restore::Problem};

/// Most samples of an image on the contact sheet and on the page.
const SHOWN: usize = 8;
/// Most images on the contact sheet and on the page.
const IMAGES: usize = 16;
/// Most images in the table.
const ROWS: usize = 32;
/// A standard deviation of s data units is drawn as the grey s · STD_GAIN on a scale from 0 to 2: white is 1.
const STD_GAIN: f64 = 2.0;
/// What the file with A⁺ y is called.
const INVERSE: &str = "pseudo-inverse";
/// Rows of windows for which SSIM is computed at once.
const BAND: i64 = 256;

/// What is shown beside PSNR and SSIM.
#[derive(Args, Debug, Default)]
pub struct Show {
    /// Tell the PSNR of images scaled to 0 … 1 by their smallest and largest values as well, as [Random Walks] does
    #[arg(long)]
    pub min_max: bool,
    /// Tell LPIPS by these weights: torchvision's AlexNet or VGG16, and v0.1/alex.pth or v0.1/vgg.pth of the package lpips
    #[arg(long, num_args = 2, value_names = ["BACKBONE.pth", "LINEAR.pth"])]
    pub lpips: Option<Vec<PathBuf>>,
    /// Tell how far images lie from the truth in the features of a classifier: a card's name, a card or a .safetensors file
    #[arg(long, value_name = "NAME|FILE")]
    pub features: Option<String>,
    /// Draw the walk of each image's first sample as well: IMAGE-walk.png, an animated PNG
    #[arg(long)]
    pub animate: bool,
}

/// A network that judges, and what tells it from others.
struct Judge {
    network: Perceived,
    /// Its name, and the SHA-256 of its weights.
    identity: String,
}

enum Perceived {
    Lpips(Lpips),
    Features(Box<Features>),
}

impl Judge {
    /// How far each image lies from the truth, both `[count, channels, height, width]`.
    fn distance(&self, x: &Tensor, truth: &Tensor) -> Result<Vec<f64>, Error> {
        match &self.network {
            Perceived::Lpips(lpips) => lpips.distance(x, truth),
            Perceived::Features(features) => features.distance(x, truth),
        }
    }
}

/// Who judges by what: the flag, and the name of the figures.
struct Judges {
    lpips: Option<Judge>,
    features: Option<Judge>,
}

impl Show {
    fn judges(&self, device: Device) -> Result<Judges> {
        Ok(Judges { lpips: self.by_lpips(device)?, features: self.by_features(device)? })
    }

    fn by_features(&self, device: Device) -> Result<Option<Judge>> {
        let Some(name) = &self.features else { return Ok(None) };
        let features = Features::open(name, device)?;
        let identity = format!("{} {}", features.card.name, features.sha256);
        Ok(Some(Judge { network: Perceived::Features(Box::new(features)), identity }))
    }

    fn by_lpips(&self, device: Device) -> Result<Option<Judge>> {
        let Some([backbone, linear]) = self.lpips.as_deref() else { return Ok(None) };
        let lpips = Lpips::open(backbone, linear, device)?;
        let read = |path: &PathBuf| fs::read(path).with_context(|| format!("{}: cannot be read", path.display()));
        let hashes = [sha256(&read(backbone)?), sha256(&read(linear)?)].concat();
        let identity = format!("{} {}", lpips.backbone().name(), sha256(hashes.as_bytes()));
        Ok(Some(Judge { network: Perceived::Lpips(lpips), identity }))
    }
}

/// What is told of one image.
#[derive(Deserialize, Serialize)]
pub struct Row {
    name: String,
    /// ‖y − A x‖ / (η √m), averaged over the samples: 1 where the samples fit the measurement as they should.
    pub residual: f64,
    pub truth: Option<Compared>,
    /// Who judged, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lpips: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    features: Option<String>,
}

/// How near to the truth images are, and how honest the spread is.
#[derive(Deserialize, Serialize)]
pub struct Compared {
    pub measurement: Figures,
    /// On average over the samples.
    pub sample: Figures,
    pub mean: Figures,
    baseline: Option<Figures>,
    /// Share of the pixels that lie within two standard deviations of the mean.
    pub coverage: f64,
}

/// Of one image or on average over several; none that is infinite.
#[derive(Deserialize, Serialize)]
pub struct Figures {
    /// In dB.
    pub psnr: Option<f64>,
    /// In dB, of images scaled to 0 … 1, where `--min-max` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    psnr_min_max: Option<f64>,
    /// By Gaussian windows; none for images smaller than one.
    pub ssim: Option<f64>,
    /// By uniform windows.
    ssim_uniform: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lpips: Option<f64>,
    /// ‖f/‖f‖ − g/‖g‖‖² of a classifier's features.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<f64>,
}

/// A folder of restored images.
pub struct Results<'a> {
    show: &'a Show,
    common: &'a Common,
    out: &'a Path,
    problem: &'a Problem,
    judges: Judges,
    /// Another estimate of each image, `[count, channels, height, width]`.
    pub baseline: Option<Tensor>,
}

impl<'a> Results<'a> {
    /// Refuses what would fail only when the first image is done.
    pub fn new(show: &'a Show, common: &'a Common, out: &'a Path, problem: &'a Problem) -> Result<Self> {
        let judges = show.judges(problem.measurement.device())?;
        for (flag, judge) in [("--lpips", &judges.lpips), ("--features", &judges.features)] {
            let Some(judge) = judge else { continue };
            let Some(truth) = &problem.truth else {
                bail!("{flag} compares with the truth, which --measurement does not tell");
            };
            let first = truth.narrow(0, 0, 1);
            judge.distance(&first, &first)?;
        }
        Ok(Self { show, common, out, problem, judges, baseline: None })
    }

    /// Refuses a folder with rows that lack what is asked for.
    pub fn check(&self) -> Result<()> {
        let files = self.problem.names.iter().map(|name| self.row_file(name));
        files.filter(|file| file.exists()).try_for_each(|file| self.suits(&file))
    }

    /// Refuses a row without the figures that are asked for.
    fn suits(&self, file: &Path) -> Result<()> {
        let row = row(file)?;
        let lacks = |judge: &Option<Judge>, of: &Option<String>| {
            judge.as_ref().is_some_and(|judge| of.as_ref() != Some(&judge.identity))
        };
        let without = match () {
            () if lacks(&self.judges.lpips, &row.lpips) => "the LPIPS that --lpips asks for",
            () if lacks(&self.judges.features, &row.features) => "the distance that --features asks for",
            () if self.show.min_max && row.truth.is_some_and(|truth| truth.mean.psnr_min_max.is_none()) => {
                "the PSNR that --min-max asks for"
            }
            () => return Ok(()),
        };
        bail!("{}: was written without {without}: remove it, and its image is restored again", file.display())
    }

    fn file(&self, name: &str, what: &str) -> PathBuf {
        self.out.join(format!("{name}-{what}.png"))
    }

    /// Where the figures of an image are, once all of its files are there.
    pub fn row_file(&self, name: &str) -> PathBuf {
        self.out.join(format!("{name}.json"))
    }

    /// Draws the walk of an image's first sample.
    pub fn film(&self, i: usize, film: &FrameRecorder) -> Result<()> {
        Ok(animation::write(&self.file(&self.problem.names[i], "walk"), &film.frames())?)
    }

    /// Writes the pictures of the i-th image, then its row, which says that it is done.
    pub fn finish(&self, i: usize, samples: &Tensor) -> Result<()> {
        let name = &self.problem.names[i];
        let (mean, spread) = moments(samples);
        let y = self.problem.measurement.narrow(0, i as i64, 1);
        let truth = self.problem.truth.as_ref().map(|truth| truth.get(i as i64).to_device(Device::Cpu));
        let baseline = self.baseline.as_ref().map(|baseline| baseline.get(i as i64));
        let write = |what: &str, x: &Tensor| images::write_png(&self.file(name, what), &images::to_bytes(x));
        for s in 0..samples.size()[0] {
            write(&format!("sample-{s:03}"), &samples.get(s))?;
        }
        write("mean", &mean)?;
        write("std", &(&spread * STD_GAIN - 1.0))?;
        write("measurement", &y.get(0).to_device(Device::Cpu))?;
        if let Some(linear) = self.problem.operator.linear().filter(|_| !is_picture(&y, self.problem.shape)) {
            write(INVERSE, &linear.pseudo_inverse(&y).get(0).to_device(Device::Cpu))?;
        }
        for (what, x) in [("truth", &truth), ("baseline", &baseline)] {
            x.as_ref().map_or(Ok(()), |x| write(what, x))?;
        }
        let compare = |truth: &Tensor| self.compare(truth, &y, samples, (&mean, &spread), baseline.as_ref());
        let truth = truth.as_ref().map(compare).transpose()?;
        let identity = |judge: &Option<Judge>| judge.as_ref().map(|judge| judge.identity.clone());
        let (lpips, features) = (identity(&self.judges.lpips), identity(&self.judges.features));
        let row = Row { name: name.clone(), residual: self.residual(&y, samples)?, truth, lpips, features };
        Ok(images::write_whole(&self.row_file(name), &serde_json::to_vec_pretty(&row)?)?)
    }

    fn residual(&self, y: &Tensor, samples: &Tensor) -> Result<f64> {
        let seen = self.problem.operator.apply(&samples.to_device(y.device()));
        Ok(f64::try_from((y - seen).square().mean(Kind::Double))?.sqrt() / self.problem.eta)
    }

    fn compare(
        &self,
        truth: &Tensor,
        y: &Tensor,
        samples: &Tensor,
        (mean, spread): (&Tensor, &Tensor),
        baseline: Option<&Tensor>,
    ) -> Result<Compared> {
        let within = (mean - truth).abs().le_tensor(&(spread * 2.0)).to_kind(Kind::Double);
        let one = |x: &Tensor| self.figures(&x.unsqueeze(0), truth);
        Ok(Compared {
            measurement: self.figures(&self.seen(y, truth).to_device(Device::Cpu), truth)?,
            sample: self.figures(samples, truth)?,
            mean: one(mean)?,
            baseline: baseline.map(one).transpose()?,
            coverage: f64::try_from(within.mean(Kind::Double)).unwrap_or(f64::NAN),
        })
    }

    /// A measurement as an image: itself, or by repeated pixels, or what A⁺ makes of one that is none.
    fn seen(&self, y: &Tensor, truth: &Tensor) -> Tensor {
        let size = truth.size();
        match self.problem.operator.linear() {
            _ if y.size()[1..] == size => y.shallow_clone(),
            Some(linear) if !is_picture(y, self.problem.shape) || y.size()[1] != size[0] => linear.pseudo_inverse(y),
            _ => y.upsample_nearest2d([size[1], size[2]], None, None),
        }
    }

    /// The figures of `x`, `[count, channels, height, width]`, on average.
    fn figures(&self, x: &Tensor, truth: &Tensor) -> Result<Figures> {
        let truth = truth.unsqueeze(0).expand_as(x);
        let unit = (images::to_unit(x), images::to_unit(&truth));
        // An image that is smaller than the window has none: that is no reason to have no other figure.
        let ssim = |window| average(similarity(&unit.0, &unit.1, window).unwrap_or_default());
        let judged = |judge: &Option<Judge>| -> Result<Option<f64>> {
            Ok(judge.as_ref().map(|judge| judge.distance(x, &truth)).transpose()?.and_then(average))
        };
        Ok(Figures {
            psnr: average(psnr(&unit.0, &unit.1)),
            psnr_min_max: self.show.min_max.then(|| average(psnr_min_max(&unit.0, &unit.1))).flatten(),
            ssim: ssim(Window::Gaussian),
            ssim_uniform: ssim(Window::Uniform),
            lpips: judged(&self.judges.lpips)?,
            features: judged(&self.judges.features)?,
        })
    }

    /// The table, the contact sheet, the page and the record.
    pub fn report(&self, samples: usize, settings: &[(String, String)]) -> Result<Vec<Row>> {
        let names = &self.problem.names;
        let rows: Vec<Row> = names.iter().map(|name| row(&self.row_file(name))).collect::<Result<_>>()?;
        let table = table(&rows, samples);
        let text = markdown(&table, gain(&rows));
        images::write_whole(&self.out.join("table.md"), text.as_bytes())?;
        let columns = self.columns(samples.min(SHOWN));
        let (sheet, page) = (self.sheet(&columns)?, self.page(&rows, table, &columns, settings)?);
        self.common.say(text);
        self.common.say(format_args!(
            "pictures in {}, all on one sheet in {}, and to look at in {}",
            self.out.display(),
            sheet.display(),
            page.display()
        ));
        self.common.record(&serde_json::json!({"out": self.out, "sheet": sheet, "page": page, "rows": rows}))?;
        Ok(rows)
    }

    /// What is shown of each image: in words, and as its files have it.
    fn columns(&self, samples: usize) -> Vec<(String, String)> {
        let pair = |what: &str| (what.to_owned(), what.to_owned());
        let mut columns = Vec::new();
        columns.extend(self.problem.truth.as_ref().map(|_| pair("truth")));
        columns.push(self.measured());
        columns.extend(self.baseline.as_ref().map(|_| pair("baseline")));
        columns.extend((0..samples).map(|s| (format!("sample {}", s + 1), format!("sample-{s:03}"))));
        columns.push(pair("mean"));
        if samples > 1 {
            columns.push(("2 × std".to_owned(), "std".to_owned()));
        }
        columns
    }

    /// The measurement where it is to be looked at, or A⁺ of it.
    fn measured(&self) -> (String, String) {
        let inverse = self.problem.names.first().is_some_and(|name| self.file(name, INVERSE).exists());
        let (label, what) = if inverse { ("measurement, A⁺ y", INVERSE) } else { ("measurement", "measurement") };
        (label.to_owned(), what.to_owned())
    }

    fn sheet(&self, columns: &[(String, String)]) -> Result<PathBuf> {
        let row = |name: &String| -> Result<(String, Vec<Tensor>)> {
            let read = |(_, what): &(String, String)| images::read_as_is(&self.file(name, what));
            Ok((name.clone(), columns.iter().map(read).collect::<Result<_, _>>()?))
        };
        let rows = self.problem.names.iter().take(IMAGES).map(row).collect::<Result<Vec<_>>>()?;
        let headings: Vec<String> = columns.iter().map(|(heading, _)| heading.clone()).collect();
        let path = self.out.join("sheet.png");
        images::write_png(&path, &sheet::sheet(&headings, &rows)?)?;
        Ok(path)
    }

    fn page(
        &self,
        rows: &[Row],
        table: Table,
        columns: &[(String, String)],
        settings: &[(String, String)],
    ) -> Result<PathBuf> {
        let path = self.out.join("record.json");
        let record = fs::read(&path).map_err(|e| Error::file(&path, format!("cannot be read: {e}")))?;
        let record: Value = serde_json::from_slice(&record).with_context(|| path.display().to_string())?;
        let model = record["model"].as_str().unwrap_or("a network");
        let page = Page {
            title: format!("Restored with {model}"),
            about: about(rows.len()),
            command: command(),
            settings: settings.iter().cloned().chain(entries(&record)).collect(),
            table,
            cases: rows.iter().take(IMAGES).map(|row| self.case(row, columns)).collect(),
        };
        let path = self.out.join("index.html");
        images::write_whole(&path, page.html()?.as_bytes())?;
        Ok(path)
    }

    fn case(&self, row: &Row, columns: &[(String, String)]) -> Case {
        let walk = self.show.animate.then(|| ("walk".to_owned(), "walk".to_owned()));
        let walk = walk.filter(|(_, what)| self.file(&row.name, what).exists());
        let columns: Vec<&(String, String)> = columns.iter().chain(&walk).collect();
        let picture =
            |(label, what): &&(String, String)| Picture { label: label.clone(), file: self.file(&row.name, what) };
        let place = |what: &str| columns.iter().position(|(_, name)| name == what);
        let beside_mean = |what| Some((place(what)?, place("mean")?));
        Case {
            name: row.name.clone(),
            about: row.about(),
            pictures: columns.iter().map(picture).collect(),
            compared: ["measurement", INVERSE, "truth"].into_iter().filter_map(beside_mean).collect(),
        }
    }
}

impl Row {
    /// What matters of it, in a line.
    fn about(&self) -> String {
        let Some(truth) = &self.truth else { return format!("residual {:.3}", self.residual) };
        let mut text = format!(
            "PSNR {} dB measured, {} dB restored (mean)",
            number(truth.measurement.psnr, 2),
            number(truth.mean.psnr, 2)
        );
        for (name, value) in [("SSIM", truth.mean.ssim), ("LPIPS", truth.mean.lpips), ("features", truth.mean.features)]
        {
            let _ = value.map_or(Ok(()), |value| write!(text, " · {name} {value:.3}"));
        }
        text
    }
}

fn about(count: usize) -> String {
    match count {
        1 => "One image, before and after.".to_owned(),
        2..=IMAGES => format!("{count} images, before and after."),
        _ => format!("The first {IMAGES} of {count} images, before and after."),
    }
}

/// Mean and standard deviation over the samples; one sample has no spread.
fn moments(samples: &Tensor) -> (Tensor, Tensor) {
    let mean = samples.mean_dim([0i64].as_slice(), false, None);
    let count = samples.size()[0];
    let squares = (samples - &mean).square().sum_dim_intlist([0i64].as_slice(), false, None);
    (mean, (squares / (count - 1).max(1) as f64).sqrt())
}

/// Whether a measurement `[1, …]` of images of `shape` is to be looked at: grey or with their channels, and of their size or a
/// whole part of it.
fn is_picture(y: &Tensor, [channels, height, width]: [i64; 3]) -> bool {
    let size = y.size();
    let &[_, c, h, w] = size.as_slice() else { return false };
    (c == 1 || c == channels) && height % h == 0 && width % w == 0 && height / h == width / w
}

/// None of nothing, and none that is not finite: JSON knows no infinity.
fn average(values: Vec<f64>) -> Option<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    mean.is_finite().then_some(mean)
}

/// SSIM of each image, band by band: each pixel whose window lies within the image is of one band, and a photograph of 30
/// megapixels takes no more memory than a band of it.
fn similarity(x: &Tensor, truth: &Tensor, window: Window) -> Result<Vec<f64>, Error> {
    let lines = x.size()[2] - window.side() + 1;
    if lines <= BAND {
        return ssim(x, truth, window);
    }
    let mut total = vec![0.0; x.size()[0] as usize];
    for first in (0..lines).step_by(BAND as usize) {
        let count = BAND.min(lines - first);
        let band = |x: &Tensor| x.narrow(2, first, count + window.side() - 1);
        let share = count as f64 / lines as f64;
        for (total, part) in total.iter_mut().zip(ssim(&band(x), &band(truth), window)?) {
            *total += part * share;
        }
    }
    Ok(total)
}

fn row(path: &Path) -> Result<Row> {
    let text = fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let Ok(row) = serde_json::from_slice(&text) else {
        bail!(
            "{}: is no row of figures as this version writes them: remove it, and its image is restored again",
            path.display()
        );
    };
    Ok(row)
}

/// One figure of a row.
type Pick = fn(&Row) -> Option<f64>;

/// Heading, digits and figure of what the table may show; figures of the measurement and the sample but PSNR, and SSIM by
/// uniform windows, are for those who read the rows.
const COLUMNS: [(&str, usize, Pick); 13] = [
    ("measurement", 2, |row| row.truth.as_ref()?.measurement.psnr),
    ("sample", 2, |row| row.truth.as_ref()?.sample.psnr),
    ("mean", 2, |row| row.truth.as_ref()?.mean.psnr),
    ("baseline", 2, |row| row.truth.as_ref()?.baseline.as_ref()?.psnr),
    ("mean, min–max", 2, |row| row.truth.as_ref()?.mean.psnr_min_max),
    ("SSIM sample", 3, |row| row.truth.as_ref()?.sample.ssim),
    ("SSIM mean", 3, |row| row.truth.as_ref()?.mean.ssim),
    ("LPIPS sample", 3, |row| row.truth.as_ref()?.sample.lpips),
    ("LPIPS mean", 3, |row| row.truth.as_ref()?.mean.lpips),
    ("features sample", 3, |row| row.truth.as_ref()?.sample.features),
    ("features mean", 3, |row| row.truth.as_ref()?.mean.features),
    ("coverage", 3, |row| Some(row.truth.as_ref()?.coverage)),
    ("residual", 3, |row| Some(row.residual)),
];

const NOTE: &str = "Measurement, sample, mean and baseline: PSNR in dB for pixels 0 … 1; SSIM by Gaussian windows; \
                    coverage: pixels within ±2 standard deviations of the mean; residual: ‖y − A x‖ of the samples over \
                    what η predicts.";

/// The figures of every image and the median of each column; columns without a figure are left out, and so is the coverage of
/// one sample, which has no spread.
fn table(rows: &[Row], samples: usize) -> Table {
    let told = |heading: &str| samples > 1 || heading != "coverage";
    let known = |pick: Pick| rows.iter().any(|row| pick(row).is_some());
    let columns: Vec<_> = COLUMNS.iter().filter(|(heading, _, pick)| told(heading) && known(*pick)).collect();
    let line = |name: &str, figure: &dyn Fn(Pick) -> Option<f64>| -> Vec<String> {
        let figures = columns.iter().map(|(_, digits, pick)| number(figure(*pick), *digits));
        std::iter::once(name.to_owned()).chain(figures).collect()
    };
    let mut lines: Vec<_> = rows.iter().take(ROWS).map(|row| line(&row.name, &|pick| pick(row))).collect();
    lines.push(line("median", &|pick| median(rows.iter().filter_map(pick).collect())));
    let headings = std::iter::once("image").chain(columns.iter().map(|(heading, ..)| *heading));
    let note =
        if rows.len() > ROWS { format!("The first {ROWS} of {} images. {NOTE}", rows.len()) } else { NOTE.to_owned() };
    Table { headings: headings.map(ToOwned::to_owned).collect(), rows: lines, note }
}

/// By how many dB the mean is better than the baseline, in the median.
fn gain(rows: &[Row]) -> Option<f64> {
    let gain = |row: &Row| {
        let truth = row.truth.as_ref()?;
        Some(truth.mean.psnr? - truth.baseline.as_ref()?.psnr?)
    };
    median(rows.iter().filter_map(gain).collect())
}

fn markdown(table: &Table, gain: Option<f64>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&table.headings) + &line(&vec!["---".to_owned(); table.headings.len()]);
    for (i, row) in table.rows.iter().enumerate() {
        let mut row = row.clone();
        if i + 1 == table.rows.len() {
            row[0] = format!("**{}**", row[0]);
        }
        text += &line(&row);
    }
    if let Some(gain) = gain {
        let _ = writeln!(text, "\nOf each image: the mean is {gain:.2} dB above the baseline in the median.");
    }
    format!("{text}\n{}", table.note)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}
