//! Sets of images to train on and to compare with: IDX files, folders, archives, arrays, CIFAR.

use std::{
    fmt,
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use memmap2::Mmap;
use rayon::prelude::*;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use tch::{Kind, Tensor};

use crate::{
    Error,
    files::{
        images::{self, Decoded, Listing},
        npz,
        preprocessing::Preprocessing,
        zip,
    },
};

/// The entries that `data:` may name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AnyData {
    /// See [`Idx`].
    Idx(Idx),
    /// See [`Folder`].
    Folder(Folder),
    /// See [`Zip`].
    Zip(Zip),
    /// See [`Npz`].
    Npz(Npz),
    /// See [`Npy`].
    Npy(Npy),
    /// See [`Cifar`].
    Cifar(Cifar),
    /// See [`Prepared`].
    Prepared(Prepared),
}

impl AnyData {
    /// The data at `path`, by the end of its name: a .zip, .npz, .npy or .bin (CIFAR) file, or else a folder.
    pub fn at(path: &Path, channels: i64) -> Self {
        let path = path.to_owned();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("zip") => Self::Zip(Zip { path, channels }),
            Some("npz") => Self::Npz(Npz { path }),
            Some("npy") => Self::Npy(Npy { path }),
            Some("bin") => Self::Cifar(Cifar { path }),
            _ => Self::Folder(Folder { path, channels }),
        }
    }

    /// The data with its file or folder in `folder`, where it is not at its own path.
    #[must_use]
    pub fn located(&self, folder: Option<&Path>) -> Self {
        let mut data = self.clone();
        let path = match &mut data {
            Self::Idx(idx) => &mut idx.images,
            Self::Folder(folder) => &mut folder.path,
            Self::Zip(zip) => &mut zip.path,
            Self::Npz(npz) => &mut npz.path,
            Self::Npy(npy) => &mut npy.path,
            Self::Cifar(cifar) => &mut cifar.path,
            Self::Prepared(set) => &mut set.path,
        };
        *path = located(path, folder);
        data
    }

    /// Reads all of it.
    pub fn load(&self) -> Result<Images, Error> {
        let mut reader = self.reader()?;
        Ok(reader.read(0..reader.count())?.images)
    }

    /// Images of folders and archives stay there until they are read.
    pub fn reader(&self) -> Result<Reader, Error> {
        let mut passed_over = None;
        let store = match self {
            Self::Idx(idx) => ReaderStore::Memory(idx.load()?),
            Self::Npz(npz) => ReaderStore::Memory(npz.load()?),
            Self::Npy(npy) => ReaderStore::Memory(npy.load()?),
            Self::Cifar(cifar) => ReaderStore::Memory(cifar.load()?),
            Self::Folder(folder) => {
                let listing = Listing::new(&folder.path, true)?;
                passed_over = listing.passed_over();
                ReaderStore::Files(listing.images, folder.channels)
            }
            Self::Prepared(set) => {
                let listing = Listing::new(&set.path, true)?;
                passed_over = listing.passed_over();
                ReaderStore::Photographs(listing.images, set.clone())
            }
            Self::Zip(zip) => zip.open()?,
        };
        Ok(Reader { store, size: None, passed_over, exif: true, sizes: Sizes::One("") })
    }
}

/// Images as a file names them: by a path alone, or as [`AnyData`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ImageSource {
    /// An image, a folder, or what [`AnyData::at`] takes.
    Path(PathBuf),
    /// Anything else.
    Data(AnyData),
}

impl<'de> Deserialize<'de> for ImageSource {
    /// Text is a path, anything else has a kind: a fault in it is then reported as one of that kind.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PathOrData;

        impl<'de> Visitor<'de> for PathOrData {
            type Value = ImageSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or {kind: …}")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<ImageSource, E> {
                Ok(ImageSource::Path(path.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ImageSource, A::Error> {
                AnyData::deserialize(MapAccessDeserializer::new(map)).map(ImageSource::Data)
            }
        }

        deserializer.deserialize_any(PathOrData)
    }
}

/// `path`, or what is called so within `folder` where only that is there.
pub fn located(path: &Path, folder: Option<&Path>) -> PathBuf {
    let within = folder.map(|folder| folder.join(path)).filter(|within| !path.exists() && within.exists());
    within.unwrap_or_else(|| path.to_owned())
}

/// Images that are read as they are asked for.
#[derive(Debug)]
pub struct Reader {
    store: ReaderStore,
    /// A sentence on the entries of a folder that are no images.
    pub passed_over: Option<String>,
    size: Option<Vec<i64>>,
    exif: bool,
    sizes: Sizes,
}

/// Sizes that images of a set may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sizes {
    /// One; the remedy for others, as the end of a sentence.
    One(&'static str),
    /// Any.
    Any,
}

#[derive(Debug)]
enum ReaderStore {
    Memory(Images),
    /// Files, and how many channels are wanted of each.
    Files(Vec<PathBuf>, i64),
    /// Files, and what becomes of each.
    Photographs(Vec<PathBuf>, Prepared),
    /// An archive, its images in it, and how many channels are wanted of each.
    Archive(PathBuf, Box<zip::Zip<Mmap>>, Vec<String>, i64),
}

/// Some of a set's images.
#[derive(Debug)]
pub struct ImageChunk {
    /// The images.
    pub images: Images,
    /// Number of images from JPEG files.
    pub jpegs: usize,
    /// Number of images whose EXIF says that they are to be turned.
    pub oriented: usize,
    /// Number of images of more than 8 bits, which were rounded.
    pub rounded: usize,
}

impl Reader {
    /// The reader, which turns images as their EXIF says, or leaves them as their pixels lie. Without this call it turns
    /// them.
    #[must_use]
    pub fn turned(self, exif: bool) -> Self {
        Self { exif, ..self }
    }

    /// The reader, with the sizes that images may have. Without this call all must be of one size.
    #[must_use]
    pub fn sized(self, sizes: Sizes) -> Self {
        Self { sizes, ..self }
    }

    /// Number of images.
    pub fn count(&self) -> usize {
        match &self.store {
            ReaderStore::Memory(images) => images.count(),
            ReaderStore::Files(files, _) | ReaderStore::Photographs(files, _) => files.len(),
            ReaderStore::Archive(_, _, names, _) => names.len(),
        }
    }

    /// Those of these numbers, which must be of one size.
    pub fn read(&mut self, range: Range<usize>) -> Result<ImageChunk, Error> {
        let mut chunks = self.chunks(range)?;
        match (chunks.pop(), chunks.is_empty()) {
            (Some(chunk), true) => Ok(chunk),
            _ => Err(Error::request("images of one size, and at least one, are wanted here")),
        }
    }

    /// Those of these numbers, in order: a chunk for each run of images of one size.
    pub fn chunks(&mut self, range: Range<usize>) -> Result<Vec<ImageChunk>, Error> {
        let exif = self.exif;
        let decoded = match &mut self.store {
            ReaderStore::Memory(images) => {
                let part = |all: &Tensor| all.narrow(0, range.start as i64, range.len() as i64);
                let images = Images { pixels: part(&images.pixels), labels: images.labels.as_ref().map(part) };
                return Ok(vec![ImageChunk { images, jpegs: 0, oriented: 0, rounded: 0 }]);
            }
            ReaderStore::Files(files, channels) => {
                let read = |path: &PathBuf| Ok((path.clone(), decoded(path, *channels, exif)?));
                files[range].par_iter().map(read).collect::<Result<Vec<_>, Error>>()?
            }
            ReaderStore::Photographs(files, set) => {
                let read = |path: &PathBuf| {
                    let image = decoded(path, 3, exif)?;
                    let pixels = set.recipe.apply(&image.pixels, set.side).map_err(|e| Error::file(path, e))?;
                    Ok((path.clone(), Decoded { pixels, ..image }))
                };
                files[range].iter().map(read).collect::<Result<Vec<_>, Error>>()?
            }
            ReaderStore::Archive(path, archive, names, channels) => {
                let mut read = |name: &String| {
                    let path = path.join(name);
                    let contents = archive.contents(name).map_err(|cause| Error::file(&path, cause))?;
                    let decoded = images::decode(&path, &contents, *channels, exif)?;
                    Ok((path, decoded))
                };
                names[range].iter().map(&mut read).collect::<Result<Vec<_>, Error>>()?
            }
        };
        self.stacked(decoded)
    }

    fn stacked(&mut self, decoded: Vec<(PathBuf, Decoded)>) -> Result<Vec<ImageChunk>, Error> {
        for (path, image) in &decoded {
            let size = image.pixels.size();
            let first = self.size.get_or_insert_with(|| size.clone());
            if let Sizes::One(remedy) = self.sizes
                && *first != size
            {
                return Err(Error::file(path, format!("is {size:?}, unlike {first:?} of the files before{remedy}")));
            }
        }
        let runs = decoded.chunk_by(|(_, one), (_, other)| one.pixels.size() == other.pixels.size());
        let chunk = |run: &[(PathBuf, Decoded)]| {
            let pixels: Vec<&Tensor> = run.iter().map(|(_, image)| &image.pixels).collect();
            let count = |is: fn(&Decoded) -> bool| run.iter().filter(|(_, image)| is(image)).count();
            ImageChunk {
                images: Images { pixels: Tensor::stack(&pixels, 0), labels: None },
                jpegs: count(|image| image.jpeg),
                oriented: count(|image| image.oriented),
                rounded: count(|image| image.rounded),
            }
        };
        Ok(runs.map(chunk).collect())
    }
}

fn decoded(path: &Path, channels: i64, exif: bool) -> Result<Decoded, Error> {
    images::decode(path, &super::read(path)?, channels, exif)
}

/// The files of MNIST and its kin, plain or gzipped.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Idx {
    /// `…-images-idx3-ubyte`, or the same with `.gz`.
    pub images: PathBuf,
    /// `…-labels-idx1-ubyte`, for a classifier.
    pub labels: Option<PathBuf>,
    /// Black pixels to add on each side; 2 makes 32×32 of 28×28.
    #[serde(default)]
    pub pad: i64,
}

impl Idx {
    fn load(&self) -> Result<Images, Error> {
        let pixels = idx(&self.images, 3)?;
        let pixels = pixels.unsqueeze(1).constant_pad_nd([self.pad; 4]);
        let labels = self.labels.as_deref().map(|path| idx(path, 1)).transpose()?;
        if let Some(labels) = &labels
            && labels.size()[0] != pixels.size()[0]
        {
            let cause = format!("{} labels for {} images", labels.size()[0], pixels.size()[0]);
            return Err(Error::file(&self.images, cause));
        }
        Ok(Images { pixels, labels: labels.map(|l| l.to_kind(Kind::Int64)) })
    }
}

fn idx(path: &Path, dimensions: u8) -> Result<Tensor, Error> {
    let unreadable = |e| Error::file(path, format!("cannot be read: {e}"));
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?;
    match path.extension() {
        Some(extension) if extension == "gz" => GzDecoder::new(file).read_to_end(&mut bytes),
        _ => file.read_to_end(&mut bytes),
    }
    .map_err(unreadable)?;
    let header = 4 + 4 * usize::from(dimensions);
    if bytes.len() < header || bytes[..4] != [0, 0, 8, dimensions] {
        return Err(Error::file(path, format!("not an IDX file of bytes in {dimensions} dimensions")));
    }
    let size = bytes[4..header].chunks_exact(4).map(|b| i64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])));
    let size: Vec<i64> = size.collect();
    if bytes.len() - header != size.iter().product::<i64>() as usize {
        return Err(Error::file(path, format!("holds {} bytes for {size:?}", bytes.len() - header)));
    }
    Ok(Tensor::f_from_data_size(&bytes[header..], &size, Kind::Uint8)?)
}

/// All images of a folder, which must be of one size.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// The folder; its own files, not those of folders within it.
    pub path: PathBuf,
    /// 1 for grey, 3 for colour.
    pub channels: i64,
}

/// All images of a .zip file, in its folders too, which must be of one size.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Zip {
    /// The file.
    pub path: PathBuf,
    /// 1 for grey, 3 for colour.
    pub channels: i64,
}

impl Zip {
    fn open(&self) -> Result<ReaderStore, Error> {
        let archive = zip::Zip::open(&self.path)?;
        let is_ours = |name: &&str| !name.split('/').any(|part| part.starts_with("._") || part == "__MACOSX");
        let names = archive.names().filter(|name| images::is_image(Path::new(name))).filter(is_ours);
        let names: Vec<String> = names.map(str::to_owned).collect();
        if names.is_empty() {
            return Err(Error::file(&self.path, "holds no image (.png, .jpg, .webp, .bmp, .tif, .ppm or .gif)"));
        }
        Ok(ReaderStore::Archive(self.path.clone(), Box::new(archive), names, self.channels))
    }
}

/// Bytes in NumPy's .npz: `arr_0` as ADM's evaluator has it, or the first array that [`Npy`] would take.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Npz {
    /// The file.
    pub path: PathBuf,
}

impl Npz {
    fn load(&self) -> Result<Images, Error> {
        let mut arrays = npz::read(&self.path, |name| !matches!(name, "mu" | "sigma" | "mu_s" | "sigma_s" | "pool_3"))?;
        let first = arrays.remove("arr_0").into_iter().chain(arrays.into_values()).find_map(|x| bytes(&x).ok());
        let Some(pixels) = first else {
            let cause = "holds no images: bytes [count, height, width, 1 or 3], in ADM's files arr_0";
            return Err(Error::file(&self.path, cause));
        };
        Ok(Images { pixels, labels: None })
    }
}

/// Bytes `[count, height, width, 1 or 3]`, `[count, 1 or 3, height, width]` or `[count, height, width]` in NumPy's .npy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Npy {
    /// The file.
    pub path: PathBuf,
}

impl Npy {
    fn load(&self) -> Result<Images, Error> {
        let pixels = bytes(&npz::read_npy(&self.path)?).map_err(|cause| Error::file(&self.path, cause))?;
        Ok(Images { pixels, labels: None })
    }
}

fn bytes(x: &Tensor) -> Result<Tensor, String> {
    if x.kind() != Kind::Uint8 {
        return Err(format!("is of {:?}: images of a set are bytes, 0 … 255 (uint8)", x.kind()));
    }
    channels_first(x)
}

/// Images as `[count, channels, height, width]`, from an array with channels last, first or none.
pub(crate) fn channels_first(x: &Tensor) -> Result<Tensor, String> {
    let (size, is_few) = (x.size(), |side: i64| matches!(side, 1 | 3));
    match size[..] {
        [count, height, width] if count > 0 && !is_few(width) => Ok(x.view([count, 1, height, width])),
        [count, first, _, last] if count > 0 && is_few(last) && !is_few(first) => {
            Ok(x.permute([0, 3, 1, 2]).contiguous())
        }
        [count, first, _, last] if count > 0 && is_few(first) && !is_few(last) => Ok(x.shallow_clone()),
        [_, first, _, last] if is_few(first) && is_few(last) => {
            Err(format!("is {size:?}, whose channels may be the second or the last: transpose it"))
        }
        _ => Err(format!("is {size:?}: [count, height, width, 1 or 3] or [count, 1 or 3, height, width] is wanted")),
    }
}

/// CIFAR-10 or CIFAR-100 in its binary form: a .bin file, or a folder of `data_batch_1.bin` … (50,000 for training).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cifar {
    /// The file or folder.
    pub path: PathBuf,
}

impl Cifar {
    fn load(&self) -> Result<Images, Error> {
        let parts: Vec<Images> = self.files()?.iter().map(|file| cifar(file)).collect::<Result<_, _>>()?;
        let all = |part: &dyn Fn(&Images) -> Option<Tensor>| {
            Tensor::cat(&parts.iter().filter_map(part).collect::<Vec<_>>(), 0)
        };
        let pixels = all(&|part| Some(part.pixels.shallow_clone()));
        Ok(Images { pixels, labels: Some(all(&|part| part.labels.as_ref().map(Tensor::shallow_clone))) })
    }

    fn files(&self) -> Result<Vec<PathBuf>, Error> {
        if !self.path.is_dir() {
            return Ok(vec![self.path.clone()]);
        }
        let batches = (1..=5).map(|k| self.path.join(format!("data_batch_{k}.bin")));
        let files: Vec<PathBuf> = batches.filter(|file| file.exists()).collect();
        if files.is_empty() {
            return Err(Error::file(&self.path, "holds no data_batch_1.bin: the binary version of CIFAR-10 is wanted"));
        }
        Ok(files)
    }
}

/// Records of one label (CIFAR-10) or of two, of which the finer comes last (CIFAR-100), and 3·32·32 bytes.
fn cifar(path: &Path) -> Result<Images, Error> {
    const PIXELS: usize = 3 * 32 * 32;
    let bytes = super::read(path)?;
    let Some(labels) = [1, 2].into_iter().find(|labels| !bytes.is_empty() && bytes.len() % (labels + PIXELS) == 0)
    else {
        return Err(Error::file(path, "is no binary file of CIFAR: records of 3073 or 3074 bytes"));
    };
    let length = labels + PIXELS;
    let records = Tensor::f_from_data_size(&bytes, &[(bytes.len() / length) as i64, length as i64], Kind::Uint8)?;
    let (labels, pixels) = (labels as i64, PIXELS as i64);
    Ok(Images {
        pixels: records.narrow(1, labels, pixels).contiguous().view([-1, 3, 32, 32]),
        labels: Some(records.select(1, labels - 1).to_kind(Kind::Int64)),
    })
}

/// A folder's photographs, made squares as a published program made them; they may be of many sizes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// The folder.
    pub path: PathBuf,
    /// Preprocessing of the published program.
    pub recipe: Preprocessing,
    /// Height and width to come to.
    pub side: i64,
}

/// A set of images in memory.
#[derive(Debug)]
pub struct Images {
    /// `[count, channels, height, width]`, bytes.
    pub pixels: Tensor,
    /// `[count]`, the class of each, where it is known.
    pub labels: Option<Tensor>,
}

impl Images {
    /// Number of images.
    pub fn count(&self) -> usize {
        self.pixels.size()[0] as usize
    }

    /// The first `count` of them, or all.
    #[must_use]
    pub fn first(self, count: usize) -> Self {
        let count = self.count().min(count) as i64;
        let first = |all: &Tensor| all.narrow(0, 0, count);
        Self { pixels: first(&self.pixels), labels: self.labels.as_ref().map(first) }
    }

    /// The chosen ones, as f32 in [−1, 1].
    pub fn batch(&self, indices: &[usize]) -> Tensor {
        images::from_bytes(&self.pixels.index_select(0, &index(indices)))
    }

    /// The classes of the chosen ones.
    pub fn classes(&self, indices: &[usize]) -> Option<Tensor> {
        self.labels.as_ref().map(|labels| labels.index_select(0, &index(indices)))
    }
}

fn index(indices: &[usize]) -> Tensor {
    Tensor::from_slice(&indices.iter().map(|&i| i as i64).collect::<Vec<_>>())
}
