// cuBLASLt as the rival of our matrix products, opened at run time where it is installed. Never part of what ships.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace himap::bench {

/** y (rows, out) = x (rows, in) W^T, all row-major; bf16, or y in float32. */
struct Product {
  int64_t rows;
  int64_t out;
  int64_t in;
  bool float_y;
};

class CublasLt {
 public:
  /** Device memory that its kernels may use. */
  static constexpr size_t kWorkspaceBytes = size_t{64} << 20;

  /**
   * Opens HIMAP_CUBLASLT of the environment, or libcublasLt.so.13, or .12. Null where none can be had; `how` says which one
   * it is, or why there is none.
   */
  static std::unique_ptr<CublasLt> open(std::string& how);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  /** A product made ready, with the kernels that its heuristics recommend, best first. */
  class Plan {
   public:
    ~Plan();
    Plan(const Plan&) = delete;
    Plan& operator=(const Plan&) = delete;

    size_t kernels() const;
    /** Asks for the product by one of the kernels. Throws himap::Error where cuBLASLt refuses. */
    void run(size_t kernel, const void* x, const void* weight, void* y, void* workspace, void* stream) const;

   private:
    friend class CublasLt;
    struct Parts;
    explicit Plan(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
  };
  /** Throws himap::Error where no kernel can do it. */
  std::unique_ptr<Plan> plan(const Product& product, int32_t most_kernels) const;

 private:
  struct Library;
  explicit CublasLt(std::unique_ptr<Library> library);
  std::unique_ptr<Library> library_;
};

}  // namespace himap::bench
