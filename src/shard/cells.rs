//! Many short byte strings at little more than their length: cells of one size stand side by side in chunks, a freed one
//! is used again by the next string of its size. Strings beyond the largest cell are boxed.

/// Cells come in multiples of this.
const STEP: usize = 16;
const CELL_MAX: usize = 4_096;
/// Cells of a chunk.
const CHUNK: usize = 64;

#[derive(Default)]
pub struct Cells {
    classes: Vec<Class>,
    large: Vec<Box<[u8]>>,
    free_large: Vec<u32>,
    bytes: usize,
}

/// Where a string stands.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    index: u32,
    length: u32,
}

#[derive(Default)]
struct Class {
    chunks: Vec<Box<[u8]>>,
    /// Cells that were never used begin here.
    used: u32,
    free: Vec<u32>,
}

impl Cells {
    pub fn put(&mut self, bytes: &[u8]) -> Cell {
        let length = u32::try_from(bytes.len()).expect("an account's stored form is shorter than 4 GiB");
        if bytes.len() > CELL_MAX {
            self.bytes += bytes.len();
            let index = match self.free_large.pop() {
                Some(index) => {
                    self.large[index as usize] = bytes.into();
                    index
                }
                None => {
                    self.large.push(bytes.into());
                    self.large.len() as u32 - 1
                }
            };
            return Cell { index, length };
        }
        let number = class_of(bytes.len());
        if self.classes.len() <= number {
            self.classes.resize_with(number + 1, Class::default);
        }
        let (class, size) = (&mut self.classes[number], size_of(number));
        let index = class.free.pop().unwrap_or_else(|| {
            class.used += 1;
            class.used - 1
        });
        let (chunk, start) = (index as usize / CHUNK, index as usize % CHUNK * size);
        if class.chunks.len() <= chunk {
            class.chunks.push(vec![0; CHUNK * size].into());
            self.bytes += CHUNK * size;
        }
        class.chunks[chunk][start..start + bytes.len()].copy_from_slice(bytes);
        Cell { index, length }
    }

    pub fn get(&self, cell: Cell) -> &[u8] {
        let (index, length) = (cell.index as usize, cell.length as usize);
        if length > CELL_MAX {
            return &self.large[index];
        }
        let number = class_of(length);
        let start = index % CHUNK * size_of(number);
        &self.classes[number].chunks[index / CHUNK][start..start + length]
    }

    pub fn get_mut(&mut self, cell: Cell) -> &mut [u8] {
        let (index, length) = (cell.index as usize, cell.length as usize);
        if length > CELL_MAX {
            return &mut self.large[index];
        }
        let number = class_of(length);
        let start = index % CHUNK * size_of(number);
        &mut self.classes[number].chunks[index / CHUNK][start..start + length]
    }

    pub fn free(&mut self, cell: Cell) {
        let length = cell.length as usize;
        if length > CELL_MAX {
            self.bytes -= length;
            self.large[cell.index as usize] = Box::default();
            self.free_large.push(cell.index);
        } else {
            self.classes[class_of(length)].free.push(cell.index);
        }
    }

    /// Bytes of all cells, used or free.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

fn class_of(length: usize) -> usize {
    length.saturating_sub(1) / STEP
}

fn size_of(class: usize) -> usize {
    (class + 1) * STEP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_all_lengths_stay_as_they_were_put() {
        let mut cells = Cells::default();
        let mut held: Vec<(Cell, Vec<u8>)> = Vec::new();
        for step in 0..20_000_usize {
            let length = step.wrapping_mul(2_654_435_761) % 600 + if step % 97 == 0 { 4_000 } else { 0 };
            let bytes = vec![step as u8; length];
            held.push((cells.put(&bytes), bytes));
            if step % 3 == 0 {
                let (cell, bytes) = held.swap_remove(step.wrapping_mul(40_503) % held.len());
                assert_eq!(cells.get(cell), bytes);
                cells.free(cell);
            }
        }
        for (cell, bytes) in &held {
            assert_eq!(cells.get(*cell), bytes);
        }
        let live: usize = held.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(cells.bytes() < live * 3 / 2, "{} bytes for {live}", cells.bytes());
    }
}
