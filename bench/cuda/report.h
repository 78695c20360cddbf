// What a run found: facts, tables and thresholds, as one JSON file for machines and as Markdown for docs/performance.md. Each
// finished table is printed at once and the file written anew, so that a run that is cut short leaves what it had.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace himap::bench {

/** One value, as it is printed and as it stands in the JSON. */
struct Cell {
  std::string text;
  std::string json;
};

Cell words(const std::string& text);
/** Printed with `digits` decimals, kept with all; not a number: a dash, null. */
Cell number(double value, int digits);
/** `value` of a whole, printed as per cent. */
Cell share(double value);
/** A 64-bit hash as 16 hexadecimal digits. */
Cell hash_text(uint64_t value);
/** Nothing to say here. */
Cell none();

struct Column {
  std::string key;      // in the JSON
  std::string heading;  // in Markdown, with the unit
};

class Table {
 public:
  Table(std::string key, std::string title, std::vector<Column> columns)
      : key_(std::move(key)), title_(std::move(title)), columns_(std::move(columns)) {}

  /** As many cells as columns. */
  void add(std::vector<Cell> row) { rows_.push_back(std::move(row)); }
  /** A line below the table. */
  void note(std::string line) { notes_.push_back(std::move(line)); }

  std::string markdown() const;
  std::string json() const;  // `"key": {"title": ..., "rows": [...], "notes": [...]}`

 private:
  std::string key_, title_;
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
  std::vector<std::string> notes_;
};

class Report {
 public:
  /** `path`: the JSON file; "" for none. */
  explicit Report(std::string path) : path_(std::move(path)) {}

  void fact(const std::string& key, const Cell& value);
  /** Prints the table and writes the file. Throws std::runtime_error where the file cannot be written. */
  void finish(const Table& table);

 private:
  void write() const;

  std::string path_;
  std::vector<std::pair<std::string, Cell>> facts_;
  std::vector<std::string> tables_;
};

}  // namespace himap::bench
