//! Pickles as data: a bounded machine for Python's object streams, which imports nothing and calls nothing.
//!
//! All opcodes of the protocols 0 to 5 are known [CPython, pickletools]. Where Python would call something, the machine
//! notes what would have been called, and with what. Values lie in one table and refer to each other by number, so that
//! neither depth nor cycles can exhaust the stack; their number is bounded, and bytes stay where they are in the stream.

use std::{ops::Range, str};

/// Values, operands and texts in one stream, beyond which it is refused. The largest published checkpoint has 30,000.
const MOST_VALUES: usize = 1_000_000;
/// Bytes of all texts together.
const MOST_TEXT: usize = 64 << 20;
/// Bytes of a line of protocol 0, and of one of Python 2's strings that is taken for a text.
const LONGEST_LINE: usize = 1 << 16;

/// The number of a value in its table.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Id(u32);

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// A longer integer, little-endian in two's complement: its place in the stream.
    Long(Range<usize>),
    /// A float.
    Float(f64),
    /// Text.
    Text(Box<str>),
    /// Bytes: their place in the stream.
    Bytes(Range<usize>),
    /// `[…]`.
    List(Vec<Id>),
    /// `(…)`.
    Tuple(Vec<Id>),
    /// `{…}` without values, frozen or not.
    Set(Vec<Id>),
    /// `{…: …}`, in the order of insertion.
    Dict(Vec<(Id, Id)>),
    /// A name that Python would import.
    Global {
        /// `collections`
        module: Box<str>,
        /// `OrderedDict`
        name: Box<str>,
    },
    /// An object that Python would call or construct.
    Object(Box<Object>),
    /// A value that the writer keeps outside of the stream, by its name there.
    Persistent(Id),
}

/// A call that was not made, and what would have been done to its result.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The callable.
    pub callable: Id,
    /// Its arguments: a tuple.
    pub arguments: Id,
    /// State to be set.
    pub state: Option<Id>,
    /// Items to be appended.
    pub items: Vec<Id>,
    /// Entries to be set.
    pub entries: Vec<(Id, Id)>,
}

/// Why a stream is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{what} at byte {at} of its pickle")]
pub struct Fault {
    /// Bytes from the beginning of the stream.
    pub at: usize,
    /// The fault.
    pub what: &'static str,
}

/// Contents of a stream.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Reads one stream from the beginning of `bytes`; returns its length as well, for files that hold several.
    pub fn read(bytes: &[u8]) -> Result<(Self, usize), Fault> {
        let mut machine = Machine::new(bytes);
        let root = machine.run()?;
        Ok((Self { values: machine.values, root }, machine.at))
    }

    /// The whole.
    pub fn root(&self) -> Id {
        self.root
    }

    /// One value.
    pub fn get(&self, id: Id) -> &Value {
        &self.values[id.0 as usize]
    }

    /// A text.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.get(id) {
            Value::Int(int) => Some(*int),
            Value::Bool(bool) => Some(i64::from(*bool)),
            _ => None,
        }
    }

    /// The elements of a list or a tuple.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::List(items) | Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a dict, or of an object that behaves as one (`OrderedDict`, `defaultdict`).
    pub fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Value::Dict(entries) => Some(entries),
            Value::Object(object) if matches!(self.global(object.callable), Some(("collections", _))) => {
                Some(&object.entries)
            }
            _ => None,
        }
    }

    /// The value of a dict under a name: the last one, as in Python.
    pub fn entry(&self, id: Id, name: &str) -> Option<Id> {
        self.entries(id)?.iter().rev().find(|(key, _)| self.text(*key) == Some(name)).map(|(_, value)| *value)
    }

    /// The names of all that the writer keeps outside of the stream.
    pub fn persistent(&self) -> impl Iterator<Item = Id> {
        self.values.iter().filter_map(|value| if let Value::Persistent(name) = value { Some(*name) } else { None })
    }

    /// Module and name of a global.
    pub fn global(&self, id: Id) -> Option<(&str, &str)> {
        match self.get(id) {
            Value::Global { module, name } => Some((module, name)),
            _ => None,
        }
    }

    /// Module and name of what an object would have called, and its arguments.
    pub fn call(&self, id: Id) -> Option<((&str, &str), &[Id])> {
        match self.get(id) {
            Value::Object(object) => Some((self.global(object.callable)?, self.sequence(object.arguments)?)),
            _ => None,
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    /// Values by slot; Python counts slots from 0 on.
    memo: Vec<Option<Id>>,
    text: usize,
    operands: usize,
}

type Done<T = ()> = Result<T, Fault>;

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let (values, stack, marks, memo) = Default::default();
        Self { bytes, at: 0, values, stack, marks, memo, text: 0, operands: 0 }
    }

    fn run(&mut self) -> Done<Id> {
        loop {
            match self.byte()? {
                b'.' => return self.pop(),
                opcode => self.step(opcode)?,
            }
        }
    }

    fn step(&mut self, opcode: u8) -> Done {
        match opcode {
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'K' => self.integer(1, false),
            b'M' => self.integer(2, false),
            b'J' => self.integer(4, true),
            0x8a => self.long(1),
            0x8b => self.long(4),
            b'G' => self.float(),
            b'I' | b'L' | b'F' | b'S' | b'V' | b'P' => self.line_of(opcode),
            0x8c => self.unicode(1),
            b'X' => self.unicode(4),
            0x8d => self.unicode(8),
            b'U' => self.old_string(1),
            b'T' => self.old_string(4),
            b'C' => self.raw(1),
            b'B' => self.raw(4),
            0x8e | 0x96 => self.raw(8),
            _ => self.structure(opcode),
        }
    }

    /// Opcodes of containers, objects and the stack.
    fn structure(&mut self, opcode: u8) -> Done {
        match opcode {
            b'(' => self.mark(),
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            0x8f => self.push(Value::Set(Vec::new())),
            b't' | b'l' | b'd' | 0x91 => self.since_mark(opcode),
            0x85..=0x87 => self.short_tuple(usize::from(opcode - 0x84)),
            b'a' | b'e' | 0x90 => self.append(opcode),
            b's' | b'u' => self.set(opcode),
            b'c' | 0x93 => self.import(opcode),
            b'R' | 0x81 => self.call(),
            0x92 | b'o' | b'i' => self.construct(opcode),
            b'b' => self.build(),
            b'Q' => self.persistent(),
            b'p' | b'q' | b'r' | 0x94 => self.put(opcode),
            b'g' | b'h' | b'j' => self.recall(opcode),
            b'0' => self.drop_top(),
            b'1' => self.above_mark().map(drop),
            b'2' => self.duplicate(),
            0x80 => self.protocol(),
            0x95 => self.take(8).map(drop),
            0x98 => Ok(()),
            0x82..=0x84 => Err(self.fault("a code of Python's private extension registry")),
            0x97 => Err(self.fault("a buffer that is not in the file")),
            _ => Err(self.fault("not an opcode")),
        }
    }

    fn fault(&self, what: &'static str) -> Fault {
        Fault { at: self.at.saturating_sub(1), what }
    }

    // ---- the stream ----

    fn take(&mut self, count: usize) -> Done<Range<usize>> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.fault("an end before its time"))?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn byte(&mut self) -> Done<u8> {
        let range = self.take(1)?;
        Ok(self.bytes[range.start])
    }

    /// An unsigned little-endian number of up to 8 bytes.
    fn number(&mut self, width: usize) -> Done<u64> {
        let range = self.take(width)?;
        Ok(self.bytes[range].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Bytes whose count stands before them.
    fn counted(&mut self, width: usize) -> Done<Range<usize>> {
        let count = self.number(width)?;
        let count = usize::try_from(count).map_err(|_| self.fault("a length beyond all files"))?;
        self.take(count)
    }

    fn raw_line(&mut self) -> Done<&'a [u8]> {
        let rest = &self.bytes[self.at..self.bytes.len().min(self.at + LONGEST_LINE)];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| self.fault("a line without end"))?;
        self.at += length + 1;
        Ok(&rest[..length])
    }

    fn line(&mut self) -> Done<&'a str> {
        str::from_utf8(self.raw_line()?).map_err(|_| self.fault("a line that is no text"))
    }

    // ---- the stack ----

    fn push(&mut self, value: Value) -> Done {
        if self.values.len() >= MOST_VALUES {
            return Err(self.fault("too many values"));
        }
        let id = Id(self.values.len() as u32);
        self.values.push(value);
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Done {
        // Popped values go somewhere else: the operands of a stream bound all that its containers hold.
        self.count_operands(1)?;
        self.stack.push(id);
        Ok(())
    }

    fn count_operands(&mut self, count: usize) -> Done {
        self.operands += count;
        if self.operands > 4 * MOST_VALUES { Err(self.fault("too many values")) } else { Ok(()) }
    }

    fn pop(&mut self) -> Done<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.fault("an empty stack"));
        }
        self.stack.pop().ok_or_else(|| self.fault("an empty stack"))
    }

    fn top(&self) -> Done<Id> {
        self.stack.last().copied().ok_or_else(|| self.fault("an empty stack"))
    }

    fn mark(&mut self) -> Done {
        if self.marks.len() >= MOST_VALUES {
            return Err(self.fault("too many marks"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Everything above the last mark.
    fn above_mark(&mut self) -> Done<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| self.fault("no mark"))?;
        if mark > self.stack.len() {
            return Err(self.fault("a mark above the stack"));
        }
        Ok(self.stack.split_off(mark))
    }

    fn drop_top(&mut self) -> Done {
        // A mark can be popped as if it were a value.
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn duplicate(&mut self) -> Done {
        let top = self.top()?;
        self.push_id(top)
    }

    fn value(&mut self, id: Id) -> &mut Value {
        &mut self.values[id.0 as usize]
    }

    // ---- simple values ----

    fn integer(&mut self, width: usize, signed: bool) -> Done {
        let number = self.number(width)?;
        self.push(Value::Int(if signed { i64::from(number as u32 as i32) } else { number as i64 }))
    }

    fn long(&mut self, width: usize) -> Done {
        let range = self.counted(width)?;
        if range.len() > 8 {
            return self.push(Value::Long(range));
        }
        let bytes = &self.bytes[range];
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
        let int = bytes.iter().rev().fold(sign, |int: i64, byte| int << 8 | i64::from(*byte));
        self.push(Value::Int(int))
    }

    fn float(&mut self) -> Done {
        let bits = self.number(8)?.swap_bytes();
        self.push(Value::Float(f64::from_bits(bits)))
    }

    /// The opcodes of protocol 0 that take a line.
    fn line_of(&mut self, opcode: u8) -> Done {
        if opcode == b'V' {
            let text = unescape(self.raw_line()?).ok_or_else(|| self.fault("a line that cannot be read"))?;
            return self.push(Value::Text(text));
        }
        let line = self.line()?;
        let value = match (opcode, line) {
            (b'I', "00") => Some(Value::Bool(false)),
            (b'I', "01") => Some(Value::Bool(true)),
            (b'I', _) => line.trim().parse().ok().map(Value::Int),
            (b'L', _) => line.trim_end_matches('L').parse().ok().map(Value::Int),
            (b'F', _) => line.trim().parse().ok().map(Value::Float),
            (b'S', _) => quoted(line).map(Value::Text),
            _ => Some(Value::Text(line.into())),
        };
        let value = value.ok_or_else(|| self.fault("a line that cannot be read"))?;
        self.push(value)?;
        if opcode == b'P' { self.persistent() } else { Ok(()) }
    }

    fn unicode(&mut self, width: usize) -> Done {
        let range = self.counted(width)?;
        self.count_text(range.len())?;
        let text = str::from_utf8(&self.bytes[range]).map_err(|_| self.fault("a text that is not UTF-8"))?;
        self.push(Value::Text(text.into()))
    }

    /// A string of Python 2: a text in Latin-1, or bytes if it is long.
    fn old_string(&mut self, width: usize) -> Done {
        let range = self.counted(width)?;
        if range.len() > LONGEST_LINE {
            return self.push(Value::Bytes(range));
        }
        self.count_text(range.len())?;
        let text: String = self.bytes[range].iter().map(|byte| char::from(*byte)).collect();
        self.push(Value::Text(text.into()))
    }

    fn raw(&mut self, width: usize) -> Done {
        let range = self.counted(width)?;
        self.push(Value::Bytes(range))
    }

    fn count_text(&mut self, count: usize) -> Done {
        self.text += count;
        if self.text > MOST_TEXT { Err(self.fault("too much text")) } else { Ok(()) }
    }

    fn protocol(&mut self) -> Done {
        if self.byte()? > 5 { Err(self.fault("a protocol newer than 5")) } else { Ok(()) }
    }

    // ---- containers ----

    fn since_mark(&mut self, opcode: u8) -> Done {
        let items = self.above_mark()?;
        let value = match opcode {
            b't' => Value::Tuple(items),
            b'l' => Value::List(items),
            0x91 => Value::Set(items),
            _ => Value::Dict(self.pairs(&items)?),
        };
        self.push(value)
    }

    fn short_tuple(&mut self, count: usize) -> Done {
        let mut items = (0..count).map(|_| self.pop()).collect::<Done<Vec<Id>>>()?;
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn pairs(&self, items: &[Id]) -> Done<Vec<(Id, Id)>> {
        let (pairs, rest) = items.as_chunks::<2>();
        if rest.is_empty() {
            Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
        } else {
            Err(self.fault("a key without a value"))
        }
    }

    fn append(&mut self, opcode: u8) -> Done {
        let new = if opcode == b'a' { vec![self.pop()?] } else { self.above_mark()? };
        let to = self.top()?;
        match self.value(to) {
            Value::List(items) | Value::Set(items) => items.extend(new),
            Value::Object(object) => object.items.extend(new),
            _ => return Err(self.fault("an append to a value that is not a list")),
        }
        Ok(())
    }

    fn set(&mut self, opcode: u8) -> Done {
        let items = if opcode == b's' {
            let value = self.pop()?;
            vec![self.pop()?, value]
        } else {
            self.above_mark()?
        };
        let new = self.pairs(&items)?;
        let to = self.top()?;
        match self.value(to) {
            Value::Dict(entries) => entries.extend(new),
            Value::Object(object) => object.entries.extend(new),
            _ => return Err(self.fault("an entry set in a value that is not a dict")),
        }
        Ok(())
    }

    // ---- what Python would import or call ----

    fn import(&mut self, opcode: u8) -> Done {
        let (module, name) = if opcode == b'c' {
            (self.line()?.into(), self.line()?.into())
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            (self.name(module)?, self.name(name)?)
        };
        self.push(Value::Global { module, name })
    }

    fn name(&mut self, id: Id) -> Done<Box<str>> {
        let Value::Text(text) = self.value(id) else { return Err(self.fault("a name that is no text")) };
        let text = text.clone();
        // Names are copied, so that they count each time.
        self.count_text(text.len())?;
        Ok(text)
    }

    fn object(&mut self, callable: Id, arguments: Id) -> Done {
        let (state, items) = Default::default();
        let entries = self.listed(callable, arguments).unwrap_or_default();
        // A list may be the argument of many calls.
        self.count_operands(entries.len())?;
        self.push(Value::Object(Box::new(Object { callable, arguments, state, items, entries })))
    }

    /// The entries in `OrderedDict([[key, value], …])`, as Python 2 wrote it; later versions set them one by one.
    fn listed(&self, callable: Id, arguments: Id) -> Option<Vec<(Id, Id)>> {
        let value = |id: Id| &self.values[id.0 as usize];
        let items = |id: Id| match value(id) {
            Value::List(items) | Value::Tuple(items) => Some(items.as_slice()),
            _ => None,
        };
        let Value::Global { module, name } = value(callable) else { return None };
        let known = (&**module, &**name) == ("collections", "OrderedDict");
        let [list] = items(arguments).filter(|_| known)? else { return None };
        let pair =
            |id: &Id| items(*id).and_then(|pair| <[Id; 2]>::try_from(pair).ok()).map(|[key, value]| (key, value));
        items(*list)?.iter().map(pair).collect()
    }

    fn call(&mut self) -> Done {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        self.object(callable, arguments)
    }

    fn construct(&mut self, opcode: u8) -> Done {
        match opcode {
            // Class, arguments, and named arguments, which are left out of account.
            0x92 => {
                self.pop()?;
                self.call()
            }
            b'o' => {
                let items = self.above_mark()?;
                let (callable, arguments) = items.split_first().ok_or_else(|| self.fault("no class"))?;
                let (callable, arguments) = (*callable, arguments.to_vec());
                self.instance(callable, arguments)
            }
            _ => {
                let (module, name) = (self.line()?.into(), self.line()?.into());
                let arguments = self.above_mark()?;
                self.push(Value::Global { module, name })?;
                let callable = self.pop()?;
                self.instance(callable, arguments)
            }
        }
    }

    fn instance(&mut self, callable: Id, arguments: Vec<Id>) -> Done {
        self.push(Value::Tuple(arguments))?;
        let arguments = self.pop()?;
        self.object(callable, arguments)
    }

    fn build(&mut self) -> Done {
        let state = self.pop()?;
        let callable = self.top()?;
        match self.value(callable) {
            Value::Object(object) => object.state = Some(state),
            // The instance of a class that needs no arguments may be any value; its attributes are of no use here.
            _ => return Err(self.fault("a state for a value that takes none")),
        }
        Ok(())
    }

    fn persistent(&mut self) -> Done {
        let name = self.pop()?;
        self.push(Value::Persistent(name))
    }

    // ---- the memo ----

    fn put(&mut self, opcode: u8) -> Done {
        let slot = match opcode {
            0x94 => self.memo.len(),
            _ => self.slot(opcode)?,
        };
        let top = self.top()?;
        if slot >= MOST_VALUES {
            return Err(self.fault("too many values"));
        }
        self.memo.resize(self.memo.len().max(slot + 1), None);
        self.memo[slot] = Some(top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Done {
        let slot = self.slot(opcode)?;
        let id = self.memo.get(slot).copied().flatten().ok_or_else(|| self.fault("a value that was never noted"))?;
        self.push_id(id)
    }

    /// A slot of the memo, as a line, a byte or four bytes.
    fn slot(&mut self, opcode: u8) -> Done<usize> {
        match opcode {
            b'p' | b'g' => self.line()?.trim().parse().map_err(|_| self.fault("a slot that is no number")),
            b'q' | b'h' => Ok(self.number(1)? as usize),
            _ => Ok(self.number(4)? as usize),
        }
    }
}

/// A string as Python 2's `repr` writes it; with other escapes than those for quotes and backslashes it is refused.
fn quoted(line: &str) -> Option<Box<str>> {
    let inner = ['\'', '"'].iter().find_map(|quote| line.strip_prefix(*quote)?.strip_suffix(*quote))?;
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        text.push(match c {
            '\\' => match characters.next()? {
                c @ ('\\' | '\'' | '"') => c,
                'n' => '\n',
                _ => return None,
            },
            c => c,
        });
    }
    Some(text.into())
}

/// A text in `raw-unicode-escape`: Latin-1, with \uXXXX and \UXXXXXXXX for what that lacks.
fn unescape(line: &[u8]) -> Option<Box<str>> {
    let line: String = line.iter().map(|byte| char::from(*byte)).collect();
    let mut text = String::with_capacity(line.len());
    let mut rest = line.as_str();
    while let Some(at) = rest.find("\\u").into_iter().chain(rest.find("\\U")).min() {
        let digits = if rest.as_bytes()[at + 1] == b'u' { 4 } else { 8 };
        let code = u32::from_str_radix(rest.get(at + 2..at + 2 + digits)?, 16).ok()?;
        text.push_str(&rest[..at]);
        text.push(char::from_u32(code)?);
        rest = &rest[at + 2 + digits..];
    }
    text.push_str(rest);
    Some(text.into())
}
