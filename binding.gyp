{
  "targets": [
    {
      "target_name": "himap",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "message": "CMakeLists.txt describes the build",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["<(PRODUCT_DIR)/himap.node"],
          "action": [
            "node", "scripts/build/cmake.cjs",
            "--config=<(CONFIGURATION_NAME)", "--out=<(PRODUCT_DIR)", "--node-include=<(node_root_dir)/include/node"
          ]
        }
      ]
    }
  ]
}
