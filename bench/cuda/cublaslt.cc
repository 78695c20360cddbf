#include "bench/cuda/cublaslt.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>

#include "bench/cuda/cublaslt_abi.h"
#include "native/core/status.h"

namespace himap::bench {

using namespace cublaslt;

namespace {

void must(Status status, const char* what) {
  require(status == kSuccess, Code::ERR_INTERNAL, std::string("[cublasLt] ") + what + " returned " + std::to_string(status));
}

}  // namespace

struct CublasLt::Library {
  Handle handle = nullptr;
  Create* create = nullptr;
  Destroy* destroy = nullptr;
  GetVersion* version = nullptr;
  MatmulDescCreate* desc_create = nullptr;
  Destroy* desc_destroy = nullptr;
  SetAttribute* desc_set = nullptr;
  LayoutCreate* layout_create = nullptr;
  Destroy* layout_destroy = nullptr;
  PreferenceCreate* preference_create = nullptr;
  Destroy* preference_destroy = nullptr;
  SetAttribute* preference_set = nullptr;
  GetHeuristics* heuristics = nullptr;
  Matmul* matmul = nullptr;

  /** The name of what is missing, or null. */
  const char* load(void* from) {
    const char* missing = nullptr;
    const auto symbol = [&](auto*& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(from, name));
      if (!function) missing = name;
    };
    symbol(create, "cublasLtCreate");
    symbol(destroy, "cublasLtDestroy");
    symbol(version, "cublasLtGetVersion");
    symbol(desc_create, "cublasLtMatmulDescCreate");
    symbol(desc_destroy, "cublasLtMatmulDescDestroy");
    symbol(desc_set, "cublasLtMatmulDescSetAttribute");
    symbol(layout_create, "cublasLtMatrixLayoutCreate");
    symbol(layout_destroy, "cublasLtMatrixLayoutDestroy");
    symbol(preference_create, "cublasLtMatmulPreferenceCreate");
    symbol(preference_destroy, "cublasLtMatmulPreferenceDestroy");
    symbol(preference_set, "cublasLtMatmulPreferenceSetAttribute");
    symbol(heuristics, "cublasLtMatmulAlgoGetHeuristic");
    symbol(matmul, "cublasLtMatmul");
    return missing;
  }
};

std::unique_ptr<CublasLt> CublasLt::open(std::string& how) {
  const char* named = std::getenv("HIMAP_CUBLASLT");
  std::vector<std::string> names = {"libcublasLt.so.13", "libcublasLt.so.12"};
  if (named && *named) names = {named};
  for (const std::string& name : names) {
    void* opened = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: it may own threads
    if (!opened) {
      const char* why = dlerror();
      how = why ? why : name + " could not be opened";
      continue;
    }
    auto library = std::make_unique<Library>();
    if (const char* missing = library->load(opened)) {
      how = name + " has no " + missing;
      continue;
    }
    const Status status = library->create(&library->handle);
    if (status != kSuccess) {
      how = name + ": cublasLtCreate returned " + std::to_string(status);
      continue;
    }
    how = name + ", version " + std::to_string(library->version());
    return std::unique_ptr<CublasLt>(new CublasLt(std::move(library)));
  }
  return nullptr;
}

CublasLt::CublasLt(std::unique_ptr<Library> library) : library_(std::move(library)) {}
CublasLt::~CublasLt() { library_->destroy(library_->handle); }

struct CublasLt::Plan::Parts {
  const Library& library;
  MatmulDesc desc = nullptr;
  Layout weight = nullptr, x = nullptr, y = nullptr;
  Preference preference = nullptr;
  std::vector<Heuristic> kernels;

  explicit Parts(const Library& from) : library(from) {}
  ~Parts() {
    if (preference) library.preference_destroy(preference);
    for (const Layout layout : {weight, x, y}) {
      if (layout) library.layout_destroy(layout);
    }
    if (desc) library.desc_destroy(desc);
  }
};

CublasLt::Plan::Plan(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
CublasLt::Plan::~Plan() = default;

size_t CublasLt::Plan::kernels() const { return parts_->kernels.size(); }

// Its matrices are column-major: our row-major W (out, in) is its (in, out), x its (in, rows), y its (out, rows).
std::unique_ptr<CublasLt::Plan> CublasLt::plan(const Product& product, int32_t most_kernels) const {
  auto parts = std::make_unique<Plan::Parts>(*library_);
  const auto rows = static_cast<uint64_t>(product.rows), out = static_cast<uint64_t>(product.out),
             in = static_cast<uint64_t>(product.in);
  must(library_->desc_create(&parts->desc, kComputeFloat32, kFloat32), "cublasLtMatmulDescCreate");
  must(library_->desc_set(parts->desc, kDescTransA, &kTransposed, sizeof kTransposed), "cublasLtMatmulDescSetAttribute");
  must(library_->layout_create(&parts->weight, kBfloat16, in, out, product.in), "cublasLtMatrixLayoutCreate");
  must(library_->layout_create(&parts->x, kBfloat16, in, rows, product.in), "cublasLtMatrixLayoutCreate");
  must(library_->layout_create(&parts->y, product.float_y ? kFloat32 : kBfloat16, out, rows, product.out),
       "cublasLtMatrixLayoutCreate");
  must(library_->preference_create(&parts->preference), "cublasLtMatmulPreferenceCreate");
  const size_t workspace = kWorkspaceBytes;
  must(library_->preference_set(parts->preference, kPrefWorkspace, &workspace, sizeof workspace),
       "cublasLtMatmulPreferenceSetAttribute");
  parts->kernels.resize(static_cast<size_t>(most_kernels));
  int found = 0;
  must(library_->heuristics(library_->handle, parts->desc, parts->weight, parts->x, parts->y, parts->y, parts->preference,
                            most_kernels, parts->kernels.data(), &found),
       "cublasLtMatmulAlgoGetHeuristic");
  parts->kernels.resize(static_cast<size_t>(found));
  const auto refused = [](const Heuristic& one) { return one.state != kSuccess; };
  parts->kernels.erase(std::remove_if(parts->kernels.begin(), parts->kernels.end(), refused), parts->kernels.end());
  require(!parts->kernels.empty(), Code::ERR_INTERNAL, "[cublasLt] no kernel was found for the product");
  return std::unique_ptr<Plan>(new Plan(std::move(parts)));
}

void CublasLt::Plan::run(size_t kernel, const void* x, const void* weight, void* y, void* workspace, void* stream) const {
  const float one = 1, zero = 0;
  must(parts_->library.matmul(parts_->library.handle, parts_->desc, &one, weight, parts_->weight, x, parts_->x, &zero, y,
                              parts_->y, y, parts_->y, &parts_->kernels[kernel].algorithm, workspace, kWorkspaceBytes, stream),
       "cublasLtMatmul");
}

}  // namespace himap::bench
