#include "common/registry.hpp"

#include <stdexcept>

namespace microbench {
namespace {

// A function-local static, because registrations run before main in no particular order.
std::vector<Entry>& entries() {
  static std::vector<Entry> all;
  return all;
}

const Entry* search(const std::string& kernel, const std::string& library) {
  for (const Entry& entry : entries()) {
    if (entry.kernel == kernel && entry.library == library) return &entry;
  }
  return nullptr;
}

}  // namespace

const std::vector<Entry>& registry() { return entries(); }

const Entry& find(const std::string& kernel, const std::string& library) {
  if (const Entry* entry = search(kernel, library)) return *entry;
  throw std::out_of_range("no library '" + library + "' is registered for kernel '" + kernel + "'");
}

Registration::Registration(Entry entry) {
  if (search(entry.kernel, entry.library) != nullptr) {
    throw std::logic_error(entry.library + " is registered twice for " + entry.kernel);
  }
  entries().push_back(std::move(entry));
}

}  // namespace microbench
