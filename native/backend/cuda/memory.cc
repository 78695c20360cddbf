// The way of bytes to the device and back, and of weights into the images that kernels stream.
#include <algorithm>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "kernels/dispatch.h"
#include "native/backend/cuda/device.h"

namespace himap {

Staging::Staging(Runtime& runtime) : runtime_(runtime) {
  for (Slot& slot : slots_) {
    slot.memory = static_cast<unsigned char*>(runtime_.allocate_pinned(kSlotBytes));
    slot.mark = runtime_.make_mark();
  }
}

Staging::~Staging() {
  for (const Slot& slot : slots_) {
    runtime_.release_mark(slot.mark);
    runtime_.release_pinned(slot.memory);
  }
}

void* Staging::room(size_t bytes) {
  constexpr size_t kAlign = 256;
  if (used_ + bytes > kSlotBytes) {
    runtime_.record(slots_[current_].mark);
    current_ = (current_ + 1) % kSlots;
    used_ = 0;
    const auto start = std::chrono::steady_clock::now();
    while (!runtime_.passed(slots_[current_].mark)) {
      require(std::chrono::steady_clock::now() - start < kPatience, Code::ERR_DEVICE_LOST,
              "[upload] the device did not read what was uploaded before");
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  }
  void* at = slots_[current_].memory + used_;
  used_ += (bytes + kAlign - 1) / kAlign * kAlign;
  return at;
}

namespace {

/** Sends `bytes` in pieces; `fill(to, first, count)` writes a piece into staging memory. */
template <class Fill>
void send(Device& device, void* to, size_t bytes, const Fill& fill) {
  for (size_t first = 0; first < bytes; first += Staging::kSlotBytes) {
    const size_t count = std::min(bytes - first, Staging::kSlotBytes);
    void* room = device.staging.room(count);
    fill(room, first, count);
    device.runtime.copy_to_device(static_cast<unsigned char*>(to) + first, room, count);
  }
}

}  // namespace

void upload(Device& device, void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  check_pointer(to, "upload", "to");
  check_pointer(from, "upload", "from");
  send(device, to, bytes, [&](void* room, size_t first, size_t count) {
    std::memcpy(room, static_cast<const unsigned char*>(from) + first, count);
  });
}

void upload_activations(Device& device, void* to, const float* from, int64_t elements) {
  check(elements >= 0, "upload", "elements must be at least 0", elements);
  if (elements == 0) return;
  check_pointer(to, "upload", "to");
  check_pointer(from, "upload", "from");
  with_activation(device.type, [&](auto value) {
    using T = decltype(value);
    send(device, to, static_cast<size_t>(elements) * sizeof(T), [&](void* room, size_t first, size_t count) {
      std::transform(from + first / sizeof(T), from + (first + count) / sizeof(T), static_cast<T*>(room), round_to<T>);
    });
  });
}

void download_activations(Device& device, float* to, const void* from, int64_t elements) {
  check(elements >= 0, "download", "elements must be at least 0", elements);
  if (elements == 0) return;
  check_pointer(to, "download", "to");
  check_pointer(from, "download", "from");
  with_activation(device.type, [&](auto value) {
    using T = decltype(value);
    std::vector<T> values(static_cast<size_t>(elements));
    device.runtime.copy_to_host(values.data(), from, values.size() * sizeof(T));
    std::transform(values.begin(), values.end(), to, [](T one) { return to_float(one); });
  });
}

Weight* import_weight(Device& device, const WeightPart* parts, int32_t n, WeightLayout layout) {
  constexpr const char* kWhere = "weight_import";
  check_pointer(parts, kWhere, "parts");
  check(n > 0, kWhere, "parts must be at least 1", n);
  check(layout == WeightLayout::kStacked || layout == WeightLayout::kGateUp, kWhere, "layout must be 0 or 1",
        static_cast<int32_t>(layout));
  int64_t out = 0;
  for (int32_t i = 0; i < n; ++i) {
    const WeightPart& part = parts[i];
    check_pointer(part.data, kWhere, "data");
    check(part.type >= DType::kF32 && part.type <= DType::kBF16, kWhere, "type must be 0 to 2", static_cast<int32_t>(part.type));
    check(part.out > 0 && part.out <= INT32_MAX, kWhere, "out must be 1 to 2^31 - 1", part.out);
    check(part.in > 0 && part.in <= INT32_MAX, kWhere, "in must be 1 to 2^31 - 1", part.in);
    check(part.in == parts[0].in, kWhere, "parts must be equally wide", part.in);
    out += part.out;
  }
  check(out <= INT32_MAX, kWhere, "the parts' rows must be at most 2^31 - 1", out);
  if (layout == WeightLayout::kGateUp) {
    check(n == 2, kWhere, "gate and up are two parts", n);
    check(parts[0].out == parts[1].out, kWhere, "gate and up must have as many rows", parts[1].out);
  }
  auto weight = std::make_unique<Weight>(
      Weight{{.data = nullptr, .type = device.type, .gate_up = layout == WeightLayout::kGateUp, .out = out, .in = parts[0].in}});
  WeightImage& image = weight->image;
  void* memory = device.runtime.allocate(static_cast<size_t>(image.bytes()));
  image.data = memory;
  try {
    device.runtime.zero(memory, static_cast<size_t>(image.bytes()));
    int64_t first_row = 0;
    for (int32_t i = 0; i < n; ++i) {
      const WeightPart& part = parts[i];
      const int64_t row_bytes = dtype_bytes(part.type, part.in);
      const int64_t rows_at_once = std::max<int64_t>(1, static_cast<int64_t>(Staging::kSlotBytes) / row_bytes);
      for (int64_t row = 0; row < part.out; row += rows_at_once) {
        const int64_t rows = std::min(rows_at_once, part.out - row);
        auto* copied = device.rows.reserve<unsigned char>(rows * row_bytes);
        const auto* from = static_cast<const unsigned char*>(part.data) + row * row_bytes;
        upload(device, copied, from, static_cast<size_t>(rows * row_bytes));
        const RepackParams repack{.image = image, .part = copied, .type = part.type, .first_row = first_row + row, .rows = rows};
        device.runtime.check(launch_repack(repack, device.runtime.stream()), kWhere);
      }
      first_row += part.out;
    }
  } catch (const Error& error) {
    if (error.code != Code::ERR_DEVICE_LOST) device.runtime.release(memory);
    throw;
  }
  return weight.release();
}

}  // namespace himap
