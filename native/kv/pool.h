// The KV pool: one block of device memory, cut into pages. Which page belongs to whom is the scheduler's business.
#pragma once

#include "kernels/kv_layout.h"
#include "native/backend/backend.h"

namespace himap {

class KvPool {
 public:
  KvPool(Backend& backend, KvLayout layout, int64_t pages)
      : layout_(layout), pages_(pages), buffer_(backend, static_cast<size_t>(pages * layout.page_bytes())) {}

  const KvLayout& layout() const { return layout_; }
  int64_t pages() const { return pages_; }
  int64_t bytes() const { return pages_ * layout_.page_bytes(); }
  void* data() const { return buffer_.as<void>(); }
  void* page(int32_t index) const { return buffer_.as<char>() + index * layout_.page_bytes(); }

 private:
  KvLayout layout_;
  int64_t pages_;
  Buffer buffer_;
};

}  // namespace himap
